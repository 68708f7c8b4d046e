# Parabola's build. `make help` lists what it does; third_party/README.md says what it needs.
# After llm.c's: plain rules, and first of all it prints what it found on this machine.

ARCH          ?= native
PARABOLA_DATA ?= ../shared/data
export PARABOLA_DATA

# A sanitizer gets a build folder of its own: build-address-undefined, build-thread.
comma := ,
BUILD := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))

# All cores without being asked. A -jN of the caller wins over this; a make that another one starts shares that one's jobs.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
MAKEFLAGS += --no-print-directory --no-builtin-rules

# ---- Flags. The same binary on the same kind of machine must give the same bits, so nothing here lets the compiler reorder
# a sum (no -ffast-math). -ffp-contract=off: whether a*b+c rounds once or twice is decided by what is written (std::fma
# rounds once) and not by what the compiler happened to inline around it; otherwise the same sum in two loops may differ.
# -fno-math-errno, -fno-trapping-math: nobody reads errno after sqrt() or traps a NaN, and minding them would prevent vector
# code; values stay what they are.
INCLUDES := -I. $(if $(DEPS),-isystem $(DEPS)/usr/include -isystem $(DEPS)/usr/include/eigen3) -isystem /usr/include/eigen3
CXXFLAGS := -std=c++20 -march=$(ARCH) -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -Wextra -Wno-missing-field-initializers -pthread -DEIGEN_DONT_PARALLELIZE
# Warnings that g++ 12 derives after inlining std::string and std::vector, and gets wrong there (GCC bug 105651 and its like),
# or AVX-512's intrinsics in Eigen (105593); and g++ 13's of a reference that a function returns, to what outlives the call.
# The sanitizers look for the real thing. clang instead warns where a loop that may have vectors has none (erfc of doubles).
CXXFLAGS += $(if $(findstring clang,$(CXX)),-Wno-pass-failed,-Wno-restrict -Wno-stringop-overread -Wno-stringop-overflow -Wno-array-bounds -Wno-maybe-uninitialized -Wno-dangling-reference)
# On x86-64 g++ 12 schedules for the machine that -march names, but for AMD's it keeps addresses in vector registers where others
# run short, in the innermost loops too: the product of 32 columns is 13% slower, of 64 6%. Tuned for Haswell it does not.
CXXFLAGS += $(if $(findstring clang,$(CXX)),,$(if $(filter x86_64,$(shell uname -m)),-mtune=haswell))
LDFLAGS  := -pthread $(if $(DEPS),$(addprefix -L,$(wildcard $(DEPS)/usr/lib/*-linux-gnu)))
LDLIBS   := -lz -ldl
ifeq ($(SAN),)
CXXFLAGS += -O3 -DNDEBUG -Werror
else
# No -Werror: g++ warns of things that are not there when it instruments code. The plain build insists.
# Four of UndefinedBehaviorSanitizer's checks double the build's time and are left out: what null and object-size find,
# AddressSanitizer stops at too; vptr and alignment have little to find in code without casts between classes or addresses.
CXXFLAGS += -O1 -g1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize=null,object-size,vptr,alignment \
            -fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS
LDFLAGS  += -fsanitize=$(SAN)
# An exit code that no program of ours has, so that a test which expects a failure never takes a report for it. Where vectors
# have 64 bytes, g++ 12.2 reads them as aligned from stack frames that the search for dead ones has put elsewhere (GCC bug
# 110027): there it is off.
LONG_VECTORS := $(shell $(CXX) -march=$(ARCH) -dM -E -x c++ /dev/null | grep -o __AVX512F__)
export ASAN_OPTIONS  ?= exitcode=86:detect_stack_use_after_return=$(if $(LONG_VECTORS),0,1)
export UBSAN_OPTIONS ?= exitcode=86:print_stacktrace=1
export TSAN_OPTIONS  ?= exitcode=86
endif
# The loops that nearly all work goes through: -O3 under sanitizers too, where a training step is five times as fast with it.
HOT := $(if $(SAN),engine/blas/% engine/ops/depthwise/%)
TEST_FLAGS := -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS
# What spends no time worth naming when it runs, but a third of the build's when compiled with -O3 (CLI11, JSON, doctest).
COLD := apps/% tests/% engine/core/% engine/io/% engine/tape/% layers/% optim/% \
        $(filter-out data/augment.cc data/preprocess.cc data/resize.cc,$(wildcard data/*.cc))
# With sanitizers the compiler itself is slow: what most tests and the apps do is not worth its time.
level = $(if $(filter $(HOT),$(1)),-O3,$(if $(SAN),$(if $(and $(batch-of-$(1)),$(filter-out tests/ops/%,$(filter tests/% apps/%,$(1)))),-O0), \
          $(if $(filter $(COLD),$(1)),-Og)))

# ---- CUDA: used where nvcc >= 12 is found; CUDA=0 leaves it out, CUDA=1 insists.
NVCC         := $(if $(filter 0,$(CUDA)),,$(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc)))
NVCC_VERSION := $(if $(NVCC),$(shell $(NVCC) --version | sed -n 's/.*release \([0-9.]*\).*/\1/p'))
NVCC_FITS    := $(shell [ $(firstword $(subst ., ,$(NVCC_VERSION)) 0) -ge 12 ] && echo yes)
ifeq ($(CUDA)$(NVCC_FITS),1)
$(error CUDA=1 needs nvcc 12 or newer: found $(or $(strip $(NVCC) $(NVCC_VERSION)),none))
endif
# CUDA only adds objects, so all goals share one build folder. These do without them, to be quick, unless CUDA=1 or
# PARABOLA_TEST_DEVICE asks for them; an app that `make` has linked with them stays as it is as long as it is up to date.
WITHOUT_CUDA := test bench demo tutorial chapters docs found format lint clean help
WITH_CUDA    := $(and $(NVCC_FITS),$(if $(SAN),,yes),$(or $(filter 1,$(CUDA)),$(filter cuda%,$(PARABOLA_TEST_DEVICE)), \
                  $(filter-out $(WITHOUT_CUDA),$(or $(MAKECMDGOALS),all))))
# Compute capabilities without the dot. Chips between two run the code of the lower one, newer ones compile the newest's for
# themselves. 80: A100, and with it the RTX 30 and 40; 90: H100, H200. `native`: only what is in this machine.
CUDA_ARCHS ?= 80 90
NVCC_ARCHS := $(if $(filter native,$(CUDA_ARCHS)),-arch=native,$(foreach arch,$(CUDA_ARCHS), \
                -gencode arch=compute_$(arch),code=sm_$(arch)) \
                -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS)))
# Beside nvcc, or where the toolkit usually is: some nvcc in PATH are scripts that call another.
CUDA_LIBRARIES := $(patsubst %/libcudart_static.a,%,$(firstword $(if $(NVCC),$(wildcard \
                    $(patsubst %/bin/nvcc,%/lib64,$(realpath $(NVCC)))/libcudart_static.a /usr/local/cuda/lib64/libcudart_static.a))))
# -fmad=false as -ffp-contract=off. Device code may call constexpr functions of the core (Philox, the 16-bit types).
NVCCFLAGS := -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr $(NVCC_ARCHS) -ccbin $(CXX) -DNDEBUG \
             -DPARABOLA_CUDA_LIBRARIES='"$(CUDA_LIBRARIES)"' -Werror all-warnings \
             -Xcompiler=-Wall,-Wextra,-Werror,-Wno-missing-field-initializers,-ffp-contract=off,-fno-math-errno,-fno-trapping-math,-pthread
# The runtime is linked statically and opens the driver by itself when a device is asked for.
CUDA_LDLIBS := -L$(CUDA_LIBRARIES) -lcudart_static -lrt -ldl

# ---- What is built, found by folder: a new file needs no line here.
LIBRARY_SOURCES := $(wildcard $(addsuffix /*.cc,engine/* engine/*/* layers layers/* optim data))
# Of apps/common, what only bench links: the other apps, and `make demo` from nothing, do without.
BENCH_SOURCES   := $(addprefix apps/common/,measure.cc op_bench.cc profile.cc)
COMMON_SOURCES  := $(filter-out $(BENCH_SOURCES),$(wildcard apps/common/*.cc))
APP_SOURCES     := $(wildcard apps/*.cc)
TUTORIAL_SOURCES := $(sort $(wildcard apps/tutorial/*.cc))
TEST_SOURCES    := $(filter-out tests/fuzz/% tests/emulated/% tests/consumer/%,$(wildcard $(addsuffix /*.cc,tests tests/* tests/*/*)))

CUDA_SOURCES      := $(wildcard $(addsuffix /*.cu,engine/* engine/*/*))
TEST_CUDA_SOURCES := $(wildcard tests/*/*.cu)
# The emulated grid stands in for the chip and for engine/cuda's own .cu files, which drive it.
EMULATED_SOURCES := $(filter-out engine/cuda/%,$(CUDA_SOURCES)) $(TEST_CUDA_SOURCES)
EMULATED_TESTS   := $(wildcard tests/emulated/*.cc) tests/main.cc $(wildcard tests/support/*.cc tests/ops/*.cc) \
                    tests/layers/golden_test.cc tests/layers/device_test.cc

# Cold files of a folder compile together, up to twelve as one, and so do its CUDA files: most of the time of such a file goes
# into what it includes and into the same templates of the standard library as its neighbours'. A build from nothing takes a
# third less of the cores' time, nvcc's part half; who changes one file again and again may say BATCHES=0. So no name may come
# twice in a folder's unnamed namespaces; each test file and each op's CUDA file has a namespace of its own. Apart stay
# programs, what takes long alone, and what the emulated grid's tests share with the others.
BATCHES := 1
APART   := apps/common/flags.cc tests/main.cc tests/layers/golden_test.cc tests/layers/device_test.cc
RANGES  := 1-12 13-24 25-36 37-48 49-60
in_folder = $(foreach file,$(2),$(if $(filter $(1),$(dir $(file))),$(file)))
in_range  = $(wordlist $(firstword $(subst -, ,$(1))),$(lastword $(subst -, ,$(1))),$(2))
# $(call batch,file,sources): the sources as one file of the build folder, where there are any.
define batch
$(if $(2),$(eval sources-of-$(1) := $(2))$(eval BATCHED += $(1)))
$(foreach source,$(2),$(eval batch-of-$(source) := $(1)))
endef
# $(call batch_all,prefix,suffix,sources): in every folder sources 1 to 12 as folder/prefix1-12.suffix, and so on.
batch_all = $(foreach folder,$(sort $(dir $(3))),$(foreach range,$(RANGES), \
              $(call batch,$(folder)$(1)$(range)$(2),$(call in_range,$(range),$(call in_folder,$(folder),$(3))))))
ifeq ($(BATCHES),1)
cold_files = $(sort $(filter-out $(APART),$(filter $(COLD),$(1))))
$(call batch_all,batch-,.cc,$(call cold_files,$(LIBRARY_SOURCES) $(COMMON_SOURCES) $(TEST_SOURCES)))
$(call batch_all,bench-batch-,.cc,$(BENCH_SOURCES))
$(call batch_all,batch-,.cu,$(sort $(filter engine/ops/%,$(CUDA_SOURCES))))
endif
# $(call objects,sources), $(call objects,CUDA sources,emulated/)
objects  = $(sort $(foreach source,$(1),$(BUILD)/obj/$(2)$(patsubst %.cc,%,$(or $(batch-of-$(source)),$(source))).o))
BATCH_OBJECTS := $(patsubst %.cc,$(BUILD)/obj/%.o,$(filter %.cc,$(BATCHED)))
OBJECTS := $(filter-out $(BATCH_OBJECTS),$(call objects,$(LIBRARY_SOURCES) $(COMMON_SOURCES) $(BENCH_SOURCES) $(APP_SOURCES) \
             $(TUTORIAL_SOURCES) $(TEST_SOURCES) $(EMULATED_TESTS)))
LIBRARY := $(BUILD)/libparabola.a
APPS    := $(APP_SOURCES:apps/%.cc=$(BUILD)/bin/%)
TUTORIAL := $(TUTORIAL_SOURCES:apps/%.cc=$(BUILD)/bin/%)
TESTS   := $(BUILD)/bin/tests
# Kernels are found by the table they register in, by no name: whole objects are linked, not a library's members.
CUDA_OBJECTS      := $(call objects,$(CUDA_SOURCES))
TEST_CUDA_OBJECTS := $(call objects,$(filter-out tests/emulated/%,$(TEST_CUDA_SOURCES)))
EMULATED_OBJECTS  := $(call objects,$(EMULATED_SOURCES),emulated/)
EMULATED          := $(BUILD)/bin/tests_emulated

.PHONY: all found demo tutorial chapters docs test test-long checked-suites checked-counts bench gpu-check install soak format lint formatted clean help FORCE
.DELETE_ON_ERROR:
all: $(LIBRARY) $(APPS)

# What nearly every file includes is read once and kept as the compiler holds it in memory. Files still include what they
# use: clang, nvcc and users of the headers go without, and so do files compiled with a higher -O than it was, on which
# g++ 12 crashes.
FREQUENT    := $(patsubst %,<%>,algorithm array cmath condition_variable functional iostream map memory mutex optional set \
                 span sstream string string_view vector) "engine/tape/tape.h"
PRECOMPILED := $(if $(findstring clang,$(CXX)),,$(BUILD)/frequent.h.gch)
# It takes eight seconds. Other cores need not wait for it with what is long, and hardly shorter with it.
UNAIDED     := apps/common/flags.cc

# ---- Rules. One short line for each file; V=1 shows the commands instead.
Q   := $(if $(V),,@)
say  = @$(if $(V),:,printf '  %-4s %s\n' $(1) '$(2)')

$(PRECOMPILED): $(BUILD)/flags
	$(Q)printf '#include %s\n' $(FREQUENT:%='%') >$(@:.gch=)
	$(Q)$(CXX) $(CXXFLAGS) $(INCLUDES) -MMD -MP -x c++-header $(@:.gch=) -o $@

# A source where it lies: a batch of several is a file of the build folder. And what people read of it.
place_of = $(if $(sources-of-$(1)),$(BUILD)/obj/)$(1)
name_of  = $(if $(sources-of-$(1)),$(basename $(1)): $(notdir $(sources-of-$(1))),$(1))
.SECONDEXPANSION:

# $(call compile,file): the command that compiles $<, with the flags of the file.
compile = $(CXX) $(CXXFLAGS) $(if $(filter $(UNAIDED) $(HOT),$(1)),,$(PRECOMPILED:%.gch=-include %)) -fmacro-prefix-map=./= \
            $(INCLUDES) $(if $(filter tests/%,$(1)),$(TEST_FLAGS)) $(call level,$(1)) -MMD -MP -c $< -o $@
$(filter-out $(call objects,$(UNAIDED)),$(OBJECTS) $(BATCH_OBJECTS)): $(PRECOMPILED)
$(OBJECTS) $(BATCH_OBJECTS): $(BUILD)/obj/%.o: $$(call place_of,$$*.cc) $(BUILD)/flags
	$(call say,C++,$(call name_of,$*.cc))
	$(Q)mkdir -p $(@D)
	$(Q)$(call compile,$(firstword $(sources-of-$*.cc) $<))

$(LIBRARY): $(call objects,$(LIBRARY_SOURCES)) $(BUILD)/sources
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(filter %.o,$^)

$(CUDA_OBJECTS) $(TEST_CUDA_OBJECTS): $(BUILD)/obj/%.o: $$(call place_of,$$*) $(BUILD)/cuda-flags
	$(call say,CUDA,$(call name_of,$*))
	$(Q)mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCCFLAGS) $(INCLUDES) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

# The same sources for the emulated grid. #pragma unroll is nvcc's.
$(EMULATED_OBJECTS): $(BUILD)/obj/emulated/%.o: $$(call place_of,$$*) $(BUILD)/flags $(PRECOMPILED)
	$(call say,C++,$(call name_of,$*) for the emulated grid)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) $(PRECOMPILED:%.gch=-include %) -Wno-unknown-pragmas $(INCLUDES) -MMD -MP -x c++ -c $< -o $@

$(APPS): $(BUILD)/bin/%: $(BUILD)/obj/apps/%.o $(call objects,$(COMMON_SOURCES)) $(LIBRARY)
$(BUILD)/bin/bench: $(call objects,$(BENCH_SOURCES))
$(TUTORIAL): $(BUILD)/bin/%: $(BUILD)/obj/apps/%.o $(LIBRARY)
$(TESTS): $(call objects,$(TEST_SOURCES) $(COMMON_SOURCES) $(BENCH_SOURCES)) $(LIBRARY) $(BUILD)/sources
$(EMULATED): $(call objects,$(EMULATED_TESTS)) $(EMULATED_OBJECTS) $(LIBRARY) $(BUILD)/sources
# What was linked without CUDA is linked again as soon as CUDA is wanted.
ifneq ($(WITH_CUDA),)
$(APPS) $(TUTORIAL): $(CUDA_OBJECTS) $(BUILD)/cuda-sources $(wildcard $(BUILD)/linked-without-cuda)
$(TESTS): $(CUDA_OBJECTS) $(TEST_CUDA_OBJECTS) $(BUILD)/cuda-sources $(wildcard $(BUILD)/linked-without-cuda)
endif
$(APPS) $(TUTORIAL) $(TESTS) $(EMULATED):
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(LDFLAGS) $(filter %.o,$^) $(LIBRARY) $(LDLIBS) $(if $(WITH_CUDA),$(CUDA_LDLIBS)) -o $@
	$(Q)$(if $(WITH_CUDA),,touch $(BUILD)/linked-without-cuda)

# Files that are written only when what they say has changed. Another compiler, flag or machine type rebuilds all (the
# compiler's predefined macros tell its version and what -march=native stands for); a removed source, what it was linked into.
update = mkdir -p $(@D) && { $(1); } >$@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }
$(BUILD)/flags: FORCE | found
	@$(call update,echo '$(CXX) $(CXXFLAGS) $(INCLUDES) $(FREQUENT) $(TEST_FLAGS) $(LDFLAGS) $(foreach file,$(HOT) $(COLD),$(file) $(call level,$(file)))'; $(CXX) $(CXXFLAGS) -dM -E -x c++ /dev/null)
$(BUILD)/sources: FORCE
	@$(call update,echo '$(LIBRARY_SOURCES) $(COMMON_SOURCES) $(BENCH_SOURCES) $(TEST_SOURCES) $(EMULATED_TESTS) $(EMULATED_SOURCES)')
$(BUILD)/cuda-flags: FORCE | found
	@$(call update,echo '$(subst ','"'"',$(NVCC) $(NVCC_VERSION) $(NVCCFLAGS) $(INCLUDES))')
$(BATCHED:%=$(BUILD)/obj/%): $(BUILD)/obj/%: FORCE
	@$(call update,printf '#include "%s"\n' $(sources-of-$*))
$(BUILD)/cuda-sources: FORCE
	@$(call update,echo '$(CUDA_SOURCES) $(TEST_CUDA_SOURCES)')

-include $(PRECOMPILED:.gch=.d) $(OBJECTS:.o=.d) $(BATCH_OBJECTS:.o=.d) $(patsubst %.o,%.d,$(CUDA_OBJECTS) $(TEST_CUDA_OBJECTS) $(EMULATED_OBJECTS))

# ---- What this machine has. Installs what is missing first; python3-pil, which only unpacks the development data, may fail.
found:
ifndef PARABOLA_FOUND
	@third_party/install.sh $(if $(DEPS),--check $(DEPS))
	@$(if $(and $(filter test test-long,$(MAKECMDGOALS)),$(wildcard $(PARABOLA_DATA)/unpack-cifar10.sh)), \
	    $(if $(DEPS),,third_party/install.sh --tests || true))
	@$(print_found)
endif

define library_versions
#include <CLI/Version.hpp>
#include <Eigen/src/Core/util/Macros.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>
FOUND Eigen EIGEN_WORLD_VERSION.EIGEN_MAJOR_VERSION.EIGEN_MINOR_VERSION
FOUND nlohmann-json NLOHMANN_JSON_VERSION_MAJOR.NLOHMANN_JSON_VERSION_MINOR.NLOHMANN_JSON_VERSION_PATCH
FOUND CLI11 CLI11_VERSION
FOUND zlib ZLIB_VERSION
FOUND doctest DOCTEST_VERSION_STR
endef
export library_versions
FASHION_MNIST := /usr/share/datasets/fashion-mnist

print_found = \
  yes() { echo "  ✓ $$*"; }; no() { echo "  ✗ $$*"; }; \
  yes "$$($(CXX) --version | head -n 1), -march=$(ARCH)$(if $(SAN),$(comma) -fsanitize=$(SAN))"; \
  printf '%s\n' "$$library_versions" | $(CXX) -std=c++20 $(INCLUDES) -E -P -x c++ - | tr -d '"' | \
    sed -n 's/ *\. */./g; s/^FOUND /  ✓ /p'; \
  $(if $(NVCC_FITS),yes "nvcc $(NVCC_VERSION)$(comma) for compute capabilities $(CUDA_ARCHS)$(if $(WITH_CUDA),, (not needed now))", \
    no "nvcc 12 or newer: $(if $(filter 0,$(CUDA)),left out by CUDA=0,not found) (CPU only)"); \
  for folder in $(if $(DEPS),$(DEPS)$(FASHION_MNIST)) $(FASHION_MNIST); do \
    [ ! -d $$folder ] || { yes "Fashion-MNIST: $$folder"; break; }; \
  done; \
  if [ -d "$(PARABOLA_DATA)" ]; then yes "development data: $(PARABOLA_DATA)"; \
  else no "development data: not in $(PARABOLA_DATA); tests that need it are skipped (PARABOLA_DATA names another folder)"; fi

# ---- The main job, on real data.
demo: $(BUILD)/bin/demo $(BUILD)/bin/evaluate
	@$(BUILD)/bin/demo --out $(BUILD)/demo

# ---- The book: every chapter in its order. What chapters write lies in build/tutorial.
chapters: $(TUTORIAL)
tutorial: chapters
	@mkdir -p $(BUILD)/tutorial && cd $(BUILD)/tutorial && for chapter in $(notdir $(TUTORIAL)); do \
	  printf '\n---- apps/tutorial/%s.cc\n\n' $$chapter && ../bin/tutorial/$$chapter || exit 1; \
	done
	@echo; ls $(BUILD)/tutorial/*.svg

# ---- A page for every header of engine/ops that a user includes, made from the header.
docs:
	@docs/ops.sh

# ---- Tests, in parts that keep all cores busy: tests/suites.sh. The last line sums up their counts.
sum_tests = awk '{ passed += $$1; failed += $$2; skipped += $$3 } \
  END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped; exit failed > 0 }' $(1)
COUNTS := apps-counts ops-counts rest-counts

test: all $(TUTORIAL) $(TESTS)
	@tests/suites.sh $(BUILD) apps rest ops
	@$(call sum_tests,$(COUNTS:%=$(BUILD)/%))

checked-suites: all $(TUTORIAL) $(TESTS) $(EMULATED)
checked-counts: checked-suites
	@tests/suites.sh $(BUILD) emulated apps rest ops

# The long cases leave part of the cores idle, which build meanwhile what the sanitizers need, at the lowest priority: no case
# looks at the clock, and memory is counted for each process. What fails to build there fails again, and is shown, afterwards.
CHECKED        := build-address-undefined
CHECKED_COUNTS := $(addprefix $(CHECKED)/,$(COUNTS) emulated-counts)
test-long: all $(TUTORIAL) $(TESTS)
	@mkdir -p $(CHECKED) && echo 0 1 0 | tee $(CHECKED_COUNTS) >/dev/null
	@echo 'with the long cases:'
	@nice -n 19 $(MAKE) SAN=address,undefined PARABOLA_FOUND=yes checked-suites >$(CHECKED)/build-log 2>&1 & \
	  PARABOLA_LONG=1 tests/suites.sh $(BUILD) rest apps ops; wait
	@echo 'under AddressSanitizer and UndefinedBehaviorSanitizer:'
	@$(MAKE) SAN=address,undefined PARABOLA_FOUND=yes checked-counts || true
	@$(call sum_tests,$(COUNTS:%=$(BUILD)/%) $(CHECKED_COUNTS))

# ---- On a GPU: docs/gpu.md. The script builds for the chip that is there, once it has found one.
PART   ?= all
REPORT ?= $(BUILD)
PEERS  ?= ../shared/peers

gpu-check: export NVCC_VERSION := $(NVCC_VERSION)
gpu-check:
	@case $(PART) in all|tests|sanitize|bench) ;; *) \
	  echo 'make gpu-check: PART: got $(PART), expected tests, sanitize, bench or all' >&2; exit 2 ;; esac
	@+MAKE='$(MAKE)' tests/gpu_check.sh $(PART) $(REPORT) $(PEERS)

# ---- Beside PyTorch on the CPU: docs/bench.md. Debian's PyTorch (python3-torch), and the newest where PYTHON_NEWEST names
# an interpreter with it; without any, our own figures alone. The part memory also trains under every policy, by a test.
PYTHON        ?= /usr/bin/python3
PYTHON_NEWEST ?=
ROUNDS        ?= 5
bench: all $(if $(filter all memory,$(PART)),$(TESTS))
	@case $(PART) in all|models|inference|profiles|ops|plots|memory|page) ;; *) \
	  echo 'make bench: PART: got $(PART), expected models, inference, profiles, ops, plots, memory, all or page' >&2; exit 2 ;; esac
	@python3 tests/bench.py $(PART) --peers '$(PEERS)' --python '$(PYTHON)' --newest '$(PYTHON_NEWEST)' --rounds '$(ROUNDS)'

# ---- The library for others. Public, and in <parabola/parabola.h>, is every header of the folders that hold no kernels, and
# of engine/ops each that declares an OpDef and so a user's function. What these include is installed with them;
# house_test.cc sees to it that neither Eigen nor CUDA is among it. Headers keep their tree and their text, and find each
# other through -I$(PREFIX)/include/parabola.
# The library is the CPU's. Kernels for CUDA register by objects that nothing refers to, which a linker leaves in a library
# (docs/architecture.md, CUDA); the apps have them where they were built with them.
VERSION := 0.1.0
PREFIX  ?= /usr/local
TARGET   = $(DESTDIR)$(abspath $(PREFIX))
PUBLIC_HEADERS    = $(sort $(wildcard $(addsuffix /*.h,engine/core engine/tape engine/io layers layers/* optim data)) \
                      $(shell grep -rl --include='*.h' '^extern const OpDef' engine/ops))
INSTALLED_HEADERS = $(sort $(filter %.h,$(shell $(CXX) $(CXXFLAGS) $(INCLUDES) -MM $(PUBLIC_HEADERS:%=-include %) -x c++ /dev/null)))

define pkg_config
prefix=$(abspath $(PREFIX))
includedir=$${prefix}/include
libdir=$${prefix}/lib

Name: parabola
Description: automatic differentiation with quadratic neurons
Version: $(VERSION)
Cflags: -std=c++20 -pthread -I$${includedir} -I$${includedir}/parabola$(if $(SAN), -fsanitize=$(SAN))
Libs: -L$${libdir} -lparabola $(LDLIBS) -pthread$(if $(SAN), -fsanitize=$(SAN))
endef

install: $(LIBRARY) $(APPS)
	@{ echo '// All public headers of Parabola, listed by make install.'; echo '#pragma once'; \
	  printf '#include "%s"\n' $(PUBLIC_HEADERS); } >$(BUILD)/parabola.h
	$(file >$(BUILD)/parabola.pc,$(pkg_config))
	@for header in $(INSTALLED_HEADERS); do install -D -m 644 $$header $(TARGET)/include/parabola/$$header || exit 1; done
	@install -D -m 644 -t $(TARGET)/include/parabola $(BUILD)/parabola.h
	@install -D -m 644 -t $(TARGET)/lib $(LIBRARY)
	@install -D -m 644 -t $(TARGET)/lib/pkgconfig $(BUILD)/parabola.pc
	@install -D -t $(TARGET)/bin $(APPS)
	@echo 'installed into $(TARGET)'

# ---- What INTERFACE promises for later is refused until it is there.
soak:              ; $(error make $@: not built yet)

# ---- The code's own looks. clang-tidy takes a quarter of an hour for all of it: a file that passed is looked at again only
# when it or what it includes has changed, and a finding does not keep it from the next file. Left out are the .cu files and
# what includes launch.cuh, which it parses only from version 16 on (std::source_location), and the consumer, which includes
# an installed library.
CODE := find engine layers optim data apps tests -name '*.h' -o -name '*.cuh' -o -name '*.cc' -o -name '*.cu'
LINT := $(patsubst %,$(BUILD)/lint/%,$(sort $(LIBRARY_SOURCES) $(COMMON_SOURCES) $(BENCH_SOURCES) $(APP_SOURCES) $(TUTORIAL_SOURCES) \
          $(TEST_SOURCES) $(wildcard tests/fuzz/*.cc) \
          $(filter-out tests/emulated/grid.cc tests/emulated/walk_test.cc,$(EMULATED_TESTS))))
ifneq ($(filter lint,$(MAKECMDGOALS)),)
MAKEFLAGS += --keep-going
-include $(LINT:=.d)
endif

format:
	@$(CODE) | xargs clang-format -i
lint: formatted $(LINT)
	@echo 'lint: nothing to mend; $(words $(LINT)) sources and what they include'
formatted: | found
	@$(CODE) | xargs clang-format --dry-run -Werror
$(LINT): $(BUILD)/lint/%: % .clang-tidy tests/.clang-tidy | found
	$(call say,LINT,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) -std=c++20 $(INCLUDES) -MM -MP -MT $@ -MF $@.d $<
	$(Q)clang-tidy --quiet $< -- $(filter-out -Werror,$(CXXFLAGS)) -Wno-unknown-warning-option $(INCLUDES) $(TEST_FLAGS) \
	  2>$@.log || { cat $@.log >&2; exit 1; }
	$(Q)touch $@

clean:
	rm -rf build build-*/

define help_text
make              the library and every app, into build/
make demo         the main job on real data, from nothing: build/demo/
make tutorial     the book: builds and runs the chapters of apps/tutorial; CUDA=1 for one with a GPU
make test         the tests
make test-long    the long cases too, then all of it under sanitizers, and CUDA kernels on the emulated grid
make bench        speed and memory beside PyTorch, into docs/bench.md; about an hour or more: PART=models, inference,
                  profiles, ops, plots or memory measures one part, PART=page only writes the page; ROUNDS=N (5),
                  PEERS=DIR as below, PYTHON=... with python3-torch (/usr/bin/python3), PYTHON_NEWEST=... with another
                  PyTorch
make gpu-check    on a machine with an NVIDIA GPU: the tests on it, sanitizers, benchmarks; PART=tests, sanitize or bench;
                  REPORT=DIR for gpu-report.md, PEERS=DIR with the PyTorch programs to compare with
make install      headers, library, pkg-config file and apps into PREFIX (/usr/local), below DESTDIR where it is given
make docs         docs/ops: a page for every op, from its header
make format       clang-format over the project's own code
make lint         clang-format and clang-tidy: what they would change
make clean        removes the build folders

SAN=address,undefined, SAN=thread    with sanitizers, in a build folder of its own
CUDA=0, CUDA=1    leaves CUDA code out, insists on it; without: where nvcc 12 or newer is found
CUDA_ARCHS=...    compute capabilities to compile for ($(CUDA_ARCHS); native: this machine's)
ARCH=x86-64-v3    for another machine type than this one (native)
DEPS=DIR          headers and data unpacked by third_party/install.sh --prefix DIR
PARABOLA_DATA=DIR development data for the tests (../shared/data)
BATCHES=0         every file compiles by itself: slower from nothing, faster where one file changes
V=1               shows the commands
Not built yet: make soak
endef
export help_text
help:
	@echo "$$help_text"
