// One source for two compilers: nvcc makes GPU kernels of it, any C++17 compiler a library that runs the same bodies on
// a CPU, block by block and thread by thread. Kernels that are written against this header keep to what both can do:
// no shared memory, no barrier, no atomics, integer arithmetic or single operations of float where results must agree.
#pragma once

#include <stdint.h>

#ifdef __CUDACC__

#include <cuda_fp16.h>
typedef __half half_t;
__device__ __forceinline__ half_t half_of(float value) { return __float2half_rn(value); }

#define EXPORT_LAUNCH(name, parameters, arguments)

#else

typedef _Float16 half_t;
static inline half_t half_of(float value) { return (half_t)value; }

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict

struct Dim3 {
    unsigned x, y, z;
};

static thread_local Dim3 blockIdx, threadIdx, blockDim, gridDim;

#define UNPACK(...) __VA_ARGS__
// A C function NAME_launch(grid xyz, block xyz, parameters...) that runs all threads of all blocks, one after the other.
#define EXPORT_LAUNCH(name, parameters, arguments)                                                                   \
    extern "C" void name##_launch(const unsigned *grid, const unsigned *block, UNPACK parameters) {                  \
        gridDim = {grid[0], grid[1], grid[2]};                                                                        \
        blockDim = {block[0], block[1], block[2]};                                                                    \
        for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)                                                      \
            for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)                                                  \
                for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)                                              \
                    for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)                                      \
                        for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y)                                  \
                            for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x) name arguments;              \
    }

#endif
