// The command line: what INTERFACE.md allows is read, all else is refused with a line that names the flag.
#include "apps/common/flags.h"

#include <sstream>

#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::flags_test {
namespace {

// "train --model x" as an app would get it; no quoting, so no value with a blank.
Flags parse(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  std::vector<const char*> argv;
  argv.reserve(words.size());
  for (const std::string& word : words) argv.push_back(word.c_str());
  for (App app : {App::train, App::adapt, App::evaluate, App::predict, App::bench, App::inspect})
    if (name_of(app) == words.at(0)) return parse_flags(app, static_cast<int>(argv.size()), argv.data());
  throw std::logic_error("no such app: " + words[0]);
}

std::string refusal(const std::string& line) {
  try {
    parse(line);
  } catch (const UsageError& error) {
    return error.what();
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "accepted";
}

std::string help(const std::string& app) {
  try {
    parse(app + " --help");
  } catch (const HelpRequest& request) {
    return request.text;
  }
  return "";
}

}  // namespace

TEST_CASE("flags: defaults are INTERFACE.md's, and what the recipe decides is left open") {
  const Flags train = parse("train --model m --data d");
  CHECK(train.model == "m");
  CHECK(train.data == "d");
  CHECK_FALSE(train.batch);
  CHECK_FALSE(train.lr);
  CHECK_FALSE(train.augment);
  CHECK_FALSE(train.threads);
  CHECK(train.checkpoint == "default");
  CHECK(train.save_every == 60);
  CHECK(train.dtype == "f32");
  CHECK(train.device == Device{});
  const Flags adapt = parse("adapt --model m --data d --weights w");
  CHECK(adapt.method == "quadratic");
  CHECK(adapt.bn == "frozen");
  CHECK_FALSE(adapt.rank);
  CHECK(parse("evaluate --model m --data d --weights w").split == "test");
  CHECK(parse("bench --model m").mode == "train");
}

TEST_CASE("flags: every value arrives in its field") {
  const Flags f = parse(
      "adapt --model m --weights w --data cifar10:x --allow-missing a.* --allow-missing b --limit 20000 --batch=128 "
      "--epochs 0 --seed 18446744073709551615 --optimizer sgd --lr 1e-2 --momentum 0.9 --weight-decay 5e-4 "
      "--nesterov --schedule step --warmup 0.5 --clip 5 --accumulate 4 --ema 0.999 --layer-decay 0.8 --label-smoothing "
      "0.1 --augment flip,crop --method lora --match "
      "layer*.conv* --rank "
      "4 "
      "--kernel 3 --dilation 2 --scale -0.5 --bn adapt --threads 2 --device cpu --dtype f32 --checkpoint blocks "
      "--out o --resume r --force --save-every 0 --json -");
  CHECK(f.weights == "w");
  CHECK(f.data == "cifar10:x");
  CHECK(f.allow_missing == std::vector<std::string>{"a.*", "b"});
  CHECK(f.limit == 20000);
  CHECK(f.batch == 128);
  CHECK(f.epochs == 0);
  CHECK(f.seed == 18446744073709551615u);
  CHECK(f.optimizer == "sgd");
  CHECK(f.lr == 1e-2);
  CHECK(f.momentum == 0.9);
  CHECK(f.weight_decay == 5e-4);
  CHECK(f.nesterov);
  CHECK(f.schedule == "step");
  CHECK(f.warmup == 0.5);
  CHECK(f.clip == 5);
  CHECK(f.accumulate == 4);
  CHECK(f.ema == 0.999);
  CHECK(f.layer_decay == 0.8);
  CHECK(f.label_smoothing == 0.1);
  CHECK(f.augment == Augmentation{.crop = true, .flip = true});
  CHECK(f.method == "lora");
  CHECK(f.match == "layer*.conv*");
  CHECK(f.rank == 4);
  CHECK(f.kernel == 3);
  CHECK(f.dilation == 2);
  CHECK(f.scale == -0.5);
  CHECK(f.bn == "adapt");
  CHECK(f.threads == 2);
  CHECK(f.checkpoint == "blocks");
  CHECK(f.out == "o");
  CHECK(f.resume == "r");
  CHECK(f.force);
  CHECK(f.save_every == 0);
  CHECK(f.json == "-");
  CHECK(parse("train --model m --data d --augment none").augment == Augmentation{});
  for (const char* list : {"none", "crop", "crop,flip", "crop,flip,rrc,jitter,cutout,mixup,cutmix"})
    CHECK(parse(concat("train --model m --data d --augment ", list)).augment->str() == list);
  CHECK(parse("bench --model m --adapt --rank 1 --mode infer").mode == "infer");
  CHECK(parse("evaluate --model m --weights w --data d --split train").split == "train");
  CHECK(parse("inspect a b --threads 1 -- --c").files == std::vector<std::string>{"a", "b", "--c"});
  const Flags predict = parse("predict a.png --model m --weights w b.jpg --classes c --top 3");
  CHECK(predict.files == std::vector<std::string>{"a.png", "b.jpg"});
  CHECK(predict.classes == "c");
  CHECK(predict.top == 3);
  CHECK(parse("evaluate --model m --weights w --data d --skip-bad").skip_bad);
  CHECK(parse("train --list-models").list_models);  // needs nothing else
}

TEST_CASE("flags: values out of range are refused, each naming flag, value and range") {
  const std::string train = "train --model m --data d ";
  for (const char* flag : {"--batch", "--limit", "--threads", "--accumulate"})
    for (const char* value : {"0", "-1", "1.5", "1e3", "x", "3x", "99999999999999999999", "nan"}) {
      const std::string message = refusal(train + flag + " " + value);
      CAPTURE(message);
      CHECK(message.starts_with(std::string(flag) + ": got \"" + value + "\", expected a whole number from 1 to "));
    }
  for (const char* flag : {"--lr", "--weight-decay", "--warmup", "--clip", "--momentum", "--save-every"})
    for (const char* value : {"-1", "nan", "inf", "-inf", "1e999", "0.1x", "abc"}) {
      const std::string message = refusal(train + flag + " " + value);
      CAPTURE(message);
      CHECK(message.starts_with(std::string(flag) + ": got \"" + value + "\", expected a number "));
    }
  const std::string adapt = "adapt --model m --weights w --data d ";
  for (const char* flag : {"--rank", "--kernel", "--dilation"})
    CHECK(refusal(adapt + flag + " 0").starts_with(std::string(flag) + ": got \"0\", expected a whole number from 1"));
  CHECK(refusal(adapt + "--scale nan") == "--scale: got \"nan\", expected a number");
  for (const char* flag : {"--momentum", "--ema", "--label-smoothing"})
    CHECK(refusal(train + flag + " 1") == std::string(flag) + ": got \"1\", expected a number from 0 to below 1");
  for (const char* value : {"0", "1.5", "-1", "x"})
    CHECK(refusal(train + "--layer-decay " + value) ==
          std::string("--layer-decay: got \"") + value + "\", expected a number above 0, at most 1");
  CHECK(refusal(train + "--epochs -1").starts_with("--epochs: got \"-1\""));
  CHECK(refusal(train + "--seed -1").starts_with("--seed: got \"-1\""));
  CHECK(refusal(train + "--threads 1025").ends_with("from 1 to 1024"));
  CHECK(refusal(train + "--optimizer adam") == "--optimizer: got \"adam\", expected sgd or adamw; did you mean adamw?");
  CHECK(refusal(train + "--augment crop,flp") ==
        "--augment: got \"flp\", expected crop, flip, rrc, jitter, cutout, mixup or cutmix; did you mean flip?");
  for (const char* list : {"crop,", ",crop", "Crop", "none,crop", "crop,none"}) {
    CAPTURE(list);
    CHECK(refusal(train + "--augment=" + list).starts_with("--augment: got \""));
  }
  CHECK(refusal(train + "--augment crop,crop") == "--augment: crop is named twice, expected once");
  CHECK(refusal(train + "--device gpu") == "--device: got \"gpu\", expected cpu, cuda or cuda:N");
}

TEST_CASE("flags: sizes of memory are whole numbers of bytes or of a unit, and imply --checkpoint auto") {
  const std::string train = "train --model m --data d --memory-budget ";
  CHECK(parse(train + "256MiB").memory_budget == size_t{256} << 20);
  CHECK(parse(train + "2GB").memory_budget == 2'000'000'000);
  CHECK(parse(train + "4KiB").memory_budget == 4096);
  CHECK(parse(train + "123456").memory_budget == 123456);
  CHECK(parse(train + "1GiB").checkpoint == "auto");
  CHECK(parse(train + "1GiB --checkpoint auto").checkpoint == "auto");
  for (const char* size : {"0", "0MiB", "-1", "1.5GiB", "lots", "MiB", "1mib", "1 GB", "99999999999GiB", "1e9"}) {
    const std::string message = refusal(train + size);
    CAPTURE(message);
    CHECK((message.starts_with("--memory-budget: got \"") || message.find("not a flag") != std::string::npos));
  }
}

TEST_CASE("flags: what this app does not know is refused, with a guess where one is near") {
  const std::string train = "train --model m --data d ";
  CHECK(refusal(train + "--epoch 3") == "--epoch: unknown flag, did you mean --epochs?");
  CHECK(refusal(train + "--wieghts w") == "--wieghts: unknown flag, did you mean --weights?");
  CHECK(refusal(train + "-batch 3") == "-batch: unknown flag, did you mean --batch?");
  CHECK(refusal(train + "--zzz") == "--zzz: unknown flag, expected one of those that train --help lists");
  CHECK(refusal(train + "--a\x01") == "--a\\x01: unknown flag, expected one of those that train --help lists");
  CHECK(refusal(train + "--rank 2") == "--rank: not a flag of train, expected with adapt or bench");
  CHECK(refusal("inspect f --model m") ==
        "--model: not a flag of inspect, expected with train, adapt, evaluate, predict or bench");
  for (const char* rubbish : {"rubbish", "++", "-- x"})
    CHECK(refusal(train + rubbish).find("not a flag") != std::string::npos);
  CHECK(refusal(train + "- ").find("unknown flag") != std::string::npos);
}

TEST_CASE("flags: a value that is missing or given twice is refused") {
  CHECK(refusal("train --data d --model") == "--model: no value given, expected one behind it");
  CHECK(refusal("train --model= --data d") == "--model=: no value given, expected one behind it");
  CHECK(refusal("train --model m --data d --out --force") == "--out: got the flag \"--force\", expected a value");
  CHECK(refusal("train --data d --model --a\x01") == "--model: got the flag \"--a\\x01\", expected a value");
  CHECK(refusal("train --model m --data d --model n") == "--model: given 2 times, expected once");
  CHECK(refusal("train --model m --data d --force=no") == "--force: got \"no\", expected no value");
}

TEST_CASE("flags: required flags") {
  CHECK(refusal("train --data d").starts_with("--model: missing"));
  CHECK(refusal("train --model m").starts_with("--data: missing"));
  CHECK(refusal("adapt --model m --data d").starts_with("--weights: missing"));
  CHECK(refusal("evaluate --model m --data d").starts_with("--weights: missing"));
  CHECK(refusal("evaluate --model m --weights w").starts_with("--data: missing"));
  CHECK(refusal("bench").starts_with("--model: missing"));
  CHECK(refusal("predict --model m --weights w").starts_with("IMAGE: missing"));
  CHECK(refusal("inspect").starts_with("FILE: missing"));
}

TEST_CASE("flags: contradictions are refused") {
  const std::string adapt = "adapt --model m --weights w --data d ";
  for (const char* flag : {"--match x", "--rank 2", "--kernel 3", "--dilation 1", "--scale 1"}) {
    for (const char* method : {"head", "full", "none"})
      CHECK(refusal(adapt + flag + " --method " + method).find(" no effect with --method ") != std::string::npos);
    CHECK(refusal(adapt + flag + " --method lora") == "accepted");
    CHECK(refusal(std::string("bench --model m ") + flag).ends_with("expected with --adapt"));
  }
  CHECK(refusal(adapt + "--optimizer adamw --momentum 0.9").starts_with("--momentum: no effect"));
  CHECK(refusal("train --model m --data d --allow-missing x").starts_with("--allow-missing: no effect"));
  CHECK(refusal(adapt + "--memory-budget 1GB --checkpoint blocks") ==
        "--memory-budget: got --checkpoint blocks as well, expected auto or none given");
  CHECK(refusal("bench --model m --mode infer --memory-budget 1GB").starts_with("--memory-budget: no effect here"));
  CHECK(refusal("bench --op relu --checkpoint auto").starts_with("--checkpoint auto: no effect here"));
  CHECK(refusal("bench --model m --profile --plan").starts_with("--profile: no effect with --plan"));
  CHECK(refusal("bench --model m --fit") == "--memory-budget: missing, expected a size for --fit");
  CHECK(refusal("bench --model m --fit --memory-budget 1GB --batch 3").starts_with("--fit: no effect with --batch"));
}

TEST_CASE("flags: what later issues build is refused and says so") {
  const std::string train = "train --model m --data d ";
  for (const char* word : {"bf16", "f16"})
    CHECK(refusal(train + "--dtype " + word).ends_with(" is not built yet, expected f32 or tf32"));
}

TEST_CASE("flags: a device that is not there is refused, and what only devices can do") {
  const std::string train = "train --model m --data d ";
  const std::string refused = refusal(train + "--device cuda:99");  // why depends on the build and the machine
  CHECK(refused.starts_with("--device: got cuda:99, but no cuda:99: "));
  CHECK(refused.find('[') == std::string::npos);
  CHECK(refusal(train + "--dtype tf32") == "--dtype: got tf32 on the CPU, expected f32, or --device cuda");
}

TEST_CASE("flags: help lists every flag that the app has, and no other") {
  const std::string train = help("train"), inspect = help("inspect"), bench = help("bench");
  for (const char* flag : {"--model NAME", "--data SPEC", "--lr X", "--resume DIR", "--json FILE", "--help"})
    CHECK(train.find(flag) != std::string::npos);
  CHECK(train.find("--rank") == std::string::npos);
  CHECK(bench.find("--rank N") != std::string::npos);
  CHECK(inspect.find("Usage: inspect FILE...") != std::string::npos);
  CHECK(inspect.find("--model") == std::string::npos);
  for (const std::string& text : {train, inspect, bench, help("adapt"), help("evaluate")}) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 100);
  }
}

}  // namespace parabola::flags_test
