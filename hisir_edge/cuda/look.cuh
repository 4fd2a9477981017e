// The cascade's part of a frame on a GPU (inspection/cascade): what the first look's network takes, which tiles the whole
// network has to see, and how those alone go through it. Part of kernels.cu; the same rules hold (portable.h).
#pragma once

#define MIDDLE 128

// Half the difference of two bytes about MIDDLE, halves to the even number: as OpenCV's addWeighted gives it.
__device__ __forceinline__ uint8_t half_difference(int a, int b) {
    const int twice = 2 * MIDDLE + a - b, down = twice >> 1;
    const int value = down + ((twice & 1) & (down & 1));
    return (uint8_t)(value > 255 ? 255 : value);
}

// The eight planes of tiles `first`, `first + 1`, ... (cascade/planes.py): tiles (total, 3, t, t), cues (total, 4, t, t),
// out (n, 8, t, t). Beyond the last tile it is that one once more. A thread a pixel: x, y in the tile, z the tile.
extern "C" __global__ void planes_u8(
    const uint8_t *__restrict__ tiles, const uint8_t *__restrict__ cues, int tile_px, int first, int total,
    uint8_t *__restrict__ out) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= tile_px || y >= tile_px) return;
    const int64_t plane = (int64_t)tile_px * tile_px, at = (int64_t)y * tile_px + x;
    const int64_t tile = first + n < total ? first + n : total - 1;
    const uint8_t *seen = tiles + 3 * tile * plane + at, *good = cues + 4 * tile * plane + at;
    uint8_t *to = out + 8 * (int64_t)n * plane + at;
    int over = 0;
    for (int c = 0; c < 3; ++c) {
        const int a = seen[c * plane], b = good[c * plane], apart = a < b ? b - a : a - b;
        to[c * plane] = half_difference(a, b);
        to[(3 + c) * plane] = (uint8_t)b;
        over = apart > over ? apart : over;
    }
    const int deviation = good[3 * plane];
    to[6 * plane] = (uint8_t)deviation;
    to[7 * plane] = (uint8_t)(over > deviation ? over - deviation : 0);
}
EXPORT_LAUNCH(
    planes_u8, (const uint8_t *tiles, const uint8_t *cues, int tile_px, int first, int total, uint8_t *out),
    (tiles, cues, tile_px, first, total, out))

// The calibrated score that is expected in each region of the golden image, the highest of the tiles that see it.
// candidate, cell (k, gh, gw): see `choose`; expected (n, cells_a_tile): logarithms. What is no finite number is NaN, and
// `no_number` becomes 1. A thread a region.
extern "C" __global__ void expected_scores(
    const int32_t *__restrict__ candidate, const int32_t *__restrict__ cell, int depth, int rows, int columns,
    int cells_a_tile, const float *__restrict__ expected, const float *__restrict__ most_gain,
    float *__restrict__ calibrated, int32_t *__restrict__ no_number) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows) return;
    const int grid = rows * columns, here = y * columns + x;
    float most = 0.0f, nothing = 0.0f;
    bool any = false;
    for (int k = 0; k < depth; ++k) {
        const int who = candidate[k * grid + here];
        if (who < 0) continue;
        const float value = expected[(int64_t)who * cells_a_tile + cell[k * grid + here]];
        nothing += value - value;
        most = !any || value > most ? value : most;
        any = true;
    }
    calibrated[here] = any ? expf(most) * most_gain[here] + nothing : 0.0f;
    if (nothing != 0.0f) *no_number = 1;  // whoever writes it, writes the same
}
EXPORT_LAUNCH(
    expected_scores,
    (const int32_t *candidate, const int32_t *cell, int depth, int rows, int columns, int cells_a_tile,
     const float *expected, const float *most_gain, float *calibrated, int32_t *no_number),
    (candidate, cell, depth, rows, columns, cells_a_tile, expected, most_gain, calibrated, no_number))

// Which tiles see a region from which on the whole network looks (`look_from`, one number), or one of the eight around
// it: look (n), 0 or 1. A thread a tile.
extern "C" __global__ void suspicious_tiles(
    const int32_t *__restrict__ origins_yx, int tiles, int side, int rows, int columns,
    const float *__restrict__ calibrated, const float *__restrict__ look_from, int32_t *__restrict__ look) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= tiles || blockIdx.y * blockDim.y + threadIdx.y != 0) return;
    const int top = origins_yx[2 * n] / REGION, left = origins_yx[2 * n + 1] / REGION;
    int found = 0;
    for (int y = clamped(top - 1, 0, rows - 1); y <= clamped(top + side, 0, rows - 1); ++y)
        for (int x = clamped(left - 1, 0, columns - 1); x <= clamped(left + side, 0, columns - 1); ++x)
            found |= !(calibrated[y * columns + x] < look_from[0]);
    look[n] = found;
}
EXPORT_LAUNCH(
    suspicious_tiles,
    (const int32_t *origins_yx, int tiles, int side, int rows, int columns, const float *calibrated,
     const float *look_from, int32_t *look),
    (origins_yx, tiles, side, rows, columns, calibrated, look_from, look))

// The numbers of the tiles to look at, in order, and how many they are. One thread: some hundreds of steps.
extern "C" __global__ void listed_tiles(
    const int32_t *__restrict__ look, int tiles, int32_t *__restrict__ numbers, int32_t *__restrict__ count) {
    if (blockIdx.x + blockIdx.y + threadIdx.x + threadIdx.y != 0) return;
    int found = 0;
    for (int n = 0; n < tiles; ++n)
        if (look[n]) numbers[found++] = n;
    *count = found;
}
EXPORT_LAUNCH(
    listed_tiles, (const int32_t *look, int tiles, int32_t *numbers, int32_t *count), (look, tiles, numbers, count))

// Tiles that are not looked at: scores (n, t, t) and misfit (n, t / 16, t / 16) of 0. A thread a pixel, z the tile.
extern "C" __global__ void waved_through(
    const int32_t *__restrict__ look, int tile_px, float *__restrict__ scores, float *__restrict__ misfit) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= tile_px || y >= tile_px || look[n]) return;
    const int side = tile_px / REGION;
    scores[((int64_t)n * tile_px + y) * tile_px + x] = 0.0f;
    if (x < side && y < side) misfit[((int64_t)n * side + y) * side + x] = 0.0f;
}
EXPORT_LAUNCH(
    waved_through, (const int32_t *look, int tile_px, float *scores, float *misfit), (look, tile_px, scores, misfit))

// Tiles and cues number `first`, `first + 1`, ... of the list, side by side for one call of the engine; beyond the list's
// end the last one once more. A thread a pixel, z the place in the call.
extern "C" __global__ void packed_tiles(
    const uint8_t *__restrict__ tiles, const uint8_t *__restrict__ cues, int tile_px, int first,
    const int32_t *__restrict__ numbers, const int32_t *__restrict__ count, uint8_t *__restrict__ packed,
    uint8_t *__restrict__ packed_cues) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= tile_px || y >= tile_px || count[0] < 1) return;
    const int64_t plane = (int64_t)tile_px * tile_px, at = (int64_t)y * tile_px + x;
    const int64_t who = numbers[first + n < count[0] ? first + n : count[0] - 1];
    for (int c = 0; c < 3; ++c) packed[(3 * (int64_t)n + c) * plane + at] = tiles[(3 * who + c) * plane + at];
    for (int c = 0; c < 4; ++c) packed_cues[(4 * (int64_t)n + c) * plane + at] = cues[(4 * who + c) * plane + at];
}
EXPORT_LAUNCH(
    packed_tiles,
    (const uint8_t *tiles, const uint8_t *cues, int tile_px, int first, const int32_t *numbers, const int32_t *count,
     uint8_t *packed, uint8_t *packed_cues),
    (tiles, cues, tile_px, first, numbers, count, packed, packed_cues))

// What the engine gave for them, to where their tiles have it. A thread a pixel, z the place in the call.
extern "C" __global__ void placed_scores(
    const float *__restrict__ packed, const float *__restrict__ packed_misfit, int tile_px, int first,
    const int32_t *__restrict__ numbers, const int32_t *__restrict__ count, float *__restrict__ scores,
    float *__restrict__ misfit) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= tile_px || y >= tile_px || first + n >= count[0]) return;
    const int side = tile_px / REGION;
    const int64_t who = numbers[first + n];
    scores[(who * tile_px + y) * tile_px + x] = packed[((int64_t)n * tile_px + y) * tile_px + x];
    if (x < side && y < side) misfit[(who * side + y) * side + x] = packed_misfit[((int64_t)n * side + y) * side + x];
}
EXPORT_LAUNCH(
    placed_scores,
    (const float *packed, const float *packed_misfit, int tile_px, int first, const int32_t *numbers,
     const int32_t *count, float *scores, float *misfit),
    (packed, packed_misfit, tile_px, first, numbers, count, scores, misfit))
