// A folder with a folder of image files per class.
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"

namespace parabola {

struct ImageFolder {
  DatasetPtr train, test;          // the same one where the folder is both
  std::vector<std::string> notes;  // lines for people: files that are no images, a folder that is not used
};

// With train/ and test/ or val/ under `folder`, those are the splits (of all three, val/ is not used); else the folder
// itself is both. A class is a folder, its label the place of its name among the sorted ones; the test split may lack
// classes of the training split, but has no others. Class folders are not searched deeper. Hidden files, and those that
// is_image_name() (decode.h) refuses, are left out and counted.
//
// Image i of a split: the first file of each class in the order of their names, then the second of each, and so on. So
// any first part of the images, as --limit takes it, has all classes, and what reads in order meets mixed batches.
// Files are decoded when they are read; images differ in size. UsageError: no such folder, no class folders, a class
// without images, classes that do not agree. Reading throws as decode_image().
ImageFolder read_image_folder(const std::string& folder, const std::string& name = "imagefolder");

// The images that can be read; what is wrong with each of the others is appended to `bad`, in order. Reads every image
// once, on all threads. UsageError where none can.
DatasetPtr sound_images(const DatasetPtr& dataset, std::vector<std::string>& bad);

}  // namespace parabola
