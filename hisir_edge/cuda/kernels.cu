// What the line does with a frame beside the network: raw pixels -> tiles, tiles -> map (ROPS), map -> mask.
//
// Every kernel has a NumPy reference in reference.py, and is run on a CPU against it by the tests (portable.h). Compile
// with -fmad=false (nvcc) or -ffp-contract=off: then results are the same to the bit everywhere.
#include <math.h>

#include "portable.h"

enum Layout { MONO, RGB, BGR, RGBA, BAYER_RG, BAYER_GR, BAYER_GB, BAYER_BG };

#define REGION 16
#define KEPT_FROM 0.25f
#define MOST_CANDIDATES 16
#define WHITE_FROM 250
#define BRIGHTER_LEVEL 252
#define BRIGHTEST_LEVEL 204

struct Pixel {
    int r, g, b;
};

__device__ __forceinline__ int clamped(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

// Bilinear demosaicing; the frame's outermost pixels take the colour of their inner neighbours, as OpenCV's do.
__device__ Pixel demosaiced(const uint8_t *raw, int layout, int width, int height, int x, int y) {
    x = clamped(x, 1, width - 2);
    y = clamped(y, 1, height - 2);
    const uint8_t *p = raw + (int64_t)y * width + x;
    const int red_x = layout == BAYER_GR || layout == BAYER_BG, red_y = layout == BAYER_GB || layout == BAYER_BG;
    const bool in_red_row = (y & 1) == red_y, in_red_column = (x & 1) == red_x;
    const int here = p[0], across = p[-1] + p[1], down = p[-width] + p[width];
    if (in_red_row != in_red_column) {  // a green pixel
        const int sideways = (across + 1) >> 1, upright = (down + 1) >> 1;
        return in_red_row ? Pixel{sideways, here, upright} : Pixel{upright, here, sideways};
    }
    const int green = (across + down + 2) >> 2;
    const int diagonal = (p[-width - 1] + p[-width + 1] + p[width - 1] + p[width + 1] + 2) >> 2;
    return in_red_row ? Pixel{here, green, diagonal} : Pixel{diagonal, green, here};
}

__device__ Pixel pixel_at(const uint8_t *raw, int layout, int width, int height, int x, int y) {
    x = clamped(x, 0, width - 1);
    y = clamped(y, 0, height - 1);
    if (layout >= BAYER_RG) return demosaiced(raw, layout, width, height, x, y);
    const int64_t at = (int64_t)y * width + x;
    if (layout == MONO) return Pixel{raw[at], raw[at], raw[at]};
    const uint8_t *p = raw + at * (layout == RGBA ? 4 : 3);
    return layout == BGR ? Pixel{p[2], p[1], p[0]} : Pixel{p[0], p[1], p[2]};
}

__device__ __forceinline__ int mixed(int a, int b, int c, int d, int fx, int fy) {
    return ((256 - fy) * ((256 - fx) * a + fx * b) + fy * ((256 - fx) * c + fx * d) + 32768) >> 16;
}

// matrix: 2 x 3 in 1/2^32, golden pixels -> frame pixels. Positions are rounded to 1/256 of a pixel.
__device__ Pixel registered(const uint8_t *raw, int layout, int width, int height, const int64_t *matrix, int x, int y) {
    const int64_t half = (int64_t)1 << 23;
    const int64_t sx = matrix[0] * x + matrix[1] * y + matrix[2] + half;
    const int64_t sy = matrix[3] * x + matrix[4] * y + matrix[5] + half;
    const int px = (int)(sx >> 32), py = (int)(sy >> 32), fx = (int)(sx >> 24) & 255, fy = (int)(sy >> 24) & 255;
    const Pixel a = pixel_at(raw, layout, width, height, px, py);
    if (fx == 0 && fy == 0) return a;
    const Pixel b = pixel_at(raw, layout, width, height, px + 1, py);
    const Pixel c = pixel_at(raw, layout, width, height, px, py + 1);
    const Pixel d = pixel_at(raw, layout, width, height, px + 1, py + 1);
    return Pixel{mixed(a.r, b.r, c.r, d.r, fx, fy), mixed(a.g, b.g, c.g, d.g, fx, fy), mixed(a.b, b.b, c.b, d.b, fx, fy)};
}

// What went white in brighter light may have been as bright as the memory there (light.py, explain_white).
__device__ __forceinline__ int explained(const uint8_t *table, int c, int value, int memory) {
    const int top = table[3 * 255 + c];
    const bool white = top <= BRIGHTER_LEVEL && top >= BRIGHTEST_LEVEL && value >= table[3 * WHITE_FROM + c];
    return white && memory > value ? memory : value;
}

// The colour that the network is to see at x, y of tile number `tile`: registered, and with the light taken out. memory:
// the board memory at that pixel, its next colour memory_plane further on; null: what went white stays as it is.
__device__ Pixel tile_pixel(
    const uint8_t *raw, int layout, int width, int height, const int64_t *matrix, const int32_t *origins_yx,
    const uint8_t *tables, int golden_h, int golden_w, int tile, int x, int y, const uint8_t *memory,
    int64_t memory_plane) {
    const int gy = clamped(origins_yx[2 * tile] + y, 0, golden_h - 1);
    const int gx = clamped(origins_yx[2 * tile + 1] + x, 0, golden_w - 1);
    const Pixel p = registered(raw, layout, width, height, matrix, gx, gy);
    if (tables == nullptr) return p;
    const uint8_t *table = tables + (int64_t)tile * 768;
    const Pixel lit = Pixel{table[3 * p.r], table[3 * p.g + 1], table[3 * p.b + 2]};
    if (memory == nullptr) return lit;
    return Pixel{
        explained(table, 0, lit.r, memory[0]), explained(table, 1, lit.g, memory[memory_plane]),
        explained(table, 2, lit.b, memory[2 * memory_plane])};
}

// Tiles `first`, `first + 1`, ... as bytes, out (n, 3, t, t); cues: the board memory of all tiles (.., 4, t, t), or null. A
// thread a pixel: x, y in the tile, z the tile.
extern "C" __global__ void tiles_u8(
    const uint8_t *__restrict__ raw, int layout, int width, int height, const int64_t *__restrict__ matrix,
    const int32_t *__restrict__ origins_yx, const uint8_t *__restrict__ tables, int golden_h, int golden_w, int tile_px,
    int first, const uint8_t *__restrict__ cues, uint8_t *__restrict__ out) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= tile_px || y >= tile_px) return;
    const int64_t plane = (int64_t)tile_px * tile_px, here = (int64_t)y * tile_px + x;
    const uint8_t *memory = cues == nullptr ? nullptr : cues + (first + n) * 4 * plane + here;
    const Pixel p = tile_pixel(
        raw, layout, width, height, matrix, origins_yx, tables, golden_h, golden_w, first + n, x, y, memory, plane);
    uint8_t *to = out + n * 3 * plane + here;
    to[0] = (uint8_t)p.r;
    to[plane] = (uint8_t)p.g;
    to[2 * plane] = (uint8_t)p.b;
}
EXPORT_LAUNCH(
    tiles_u8,
    (const uint8_t *raw, int layout, int width, int height, const int64_t *matrix, const int32_t *origins_yx,
     const uint8_t *tables, int golden_h, int golden_w, int tile_px, int first, const uint8_t *cues, uint8_t *out),
    (raw, layout, width, height, matrix, origins_yx, tables, golden_h, golden_w, tile_px, first, cues, out))

// The same with the positional cue as half floats about 0, out (n, 7, t, t): three colours, then the board memory
// (4, memory_h, memory_w) at the tile's place.
extern "C" __global__ void tiles_f16(
    const uint8_t *__restrict__ raw, int layout, int width, int height, const int64_t *__restrict__ matrix,
    const int32_t *__restrict__ origins_yx, const uint8_t *__restrict__ tables, int golden_h, int golden_w, int tile_px,
    int first, const uint8_t *__restrict__ memory, int memory_h, int memory_w, half_t *__restrict__ out) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= tile_px || y >= tile_px) return;
    const int64_t plane = (int64_t)tile_px * tile_px, memory_plane = (int64_t)memory_h * memory_w;
    const uint8_t *at =
        memory + (int64_t)(origins_yx[2 * (first + n)] + y) * memory_w + origins_yx[2 * (first + n) + 1] + x;
    const Pixel p = tile_pixel(
        raw, layout, width, height, matrix, origins_yx, tables, golden_h, golden_w, first + n, x, y, at, memory_plane);
    half_t *to = out + n * 7 * plane + (int64_t)y * tile_px + x;
    const int colours[3] = {p.r, p.g, p.b};
    for (int c = 0; c < 3; ++c) to[c * plane] = half_of((float)(colours[c] - 128) / 255.0f);
    for (int c = 0; c < 4; ++c) to[(3 + c) * plane] = half_of((float)(at[c * memory_plane] - 128) / 255.0f);
}
EXPORT_LAUNCH(
    tiles_f16,
    (const uint8_t *raw, int layout, int width, int height, const int64_t *matrix, const int32_t *origins_yx,
     const uint8_t *tables, int golden_h, int golden_w, int tile_px, int first, const uint8_t *memory, int memory_h,
     int memory_w, half_t *out),
    (raw, layout, width, height, matrix, origins_yx, tables, golden_h, golden_w, tile_px, first, memory, memory_h,
     memory_w, out))

// Per region of each tile its level (mean of one row, summed in a fixed order) and its highest score.
// scores (n, t, t); misfit, level, peak (n, t / 16, t / 16). A thread a region: x, y in the tile, z the tile. Where a score
// or the misfit is no finite number, peak is NaN and `no_number` (one, set to 0 before) becomes 1: the host looks at it
// before it believes a frame, since `choose` cannot tell.
extern "C" __global__ void region_figures(
    const float *__restrict__ scores, const float *__restrict__ misfit, int tile_px, float *__restrict__ level,
    float *__restrict__ peak, int32_t *__restrict__ no_number) {
    const int side = tile_px / REGION;
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= side || y >= side) return;
    const float *p = scores + ((int64_t)n * tile_px + y * REGION) * tile_px + x * REGION;
    const float *row = p + (int64_t)(REGION / 2) * tile_px;
    float sum[8];
    for (int i = 0; i < 8; ++i) sum[i] = row[i] + row[i + 8];
    const float total = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    const int64_t at = ((int64_t)n * side + y) * side + x;
    float most = p[0], nothing = misfit[at] - misfit[at];  // 0, or NaN of NaN and infinity
    for (int r = 0; r < REGION; ++r)
        for (int c = 0; c < REGION; ++c) {
            const float value = p[(int64_t)r * tile_px + c];
            nothing += value - value;
            if (value > most) most = value;
        }
    level[at] = total / 16.0f;
    peak[at] = most + nothing;
    if (nothing != 0.0f) *no_number = 1;  // whoever writes it, writes the same
}
EXPORT_LAUNCH(
    region_figures,
    (const float *scores, const float *misfit, int tile_px, float *level, float *peak, int32_t *no_number),
    (scores, misfit, tile_px, level, peak, no_number))

// Who is heard at each region (rops.py): candidate, cell (k, gh, gw), border (k, gh, gw); level, misfit of all regions
// of all tiles. `before` (gh, gw): who was heard after the last pass, null in the first one; never the same array as
// `tile`. `look` (n): the tiles that were run, whose candidates alone have a say where there is one; null: all were. The
// host refuses a depth over MOST_CANDIDATES. A thread a region.
extern "C" __global__ void choose(
    const int32_t *__restrict__ candidate, const int32_t *__restrict__ cell, const float *__restrict__ border, int depth,
    int rows, int columns, int cells_a_tile, const float *__restrict__ level, const float *__restrict__ misfit,
    const int32_t *__restrict__ before, const int32_t *__restrict__ look, int32_t *__restrict__ tile,
    int32_t *__restrict__ cell_of_tile) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows) return;
    const int grid = rows * columns, here = y * columns + x;
    int count = 0;
    bool any = false;
    for (int k = 0; look != nullptr && k < depth; ++k) {
        const int who = candidate[k * grid + here];
        any = any || (who >= 0 && look[who]);
    }
    float fit[MOST_CANDIDATES], seen[MOST_CANDIDATES], ordered[MOST_CANDIDATES], best_fit = 0.0f;
    for (int k = 0; k < depth; ++k) {
        const int who = candidate[k * grid + here];
        if (who < 0 || (any && !look[who])) continue;
        const int64_t at = (int64_t)who * cells_a_tile + cell[k * grid + here];
        fit[k] = misfit[at];
        seen[k] = level[at];
        best_fit = count == 0 || fit[k] < best_fit ? fit[k] : best_fit;
        int place = count++;
        for (; place > 0 && ordered[place - 1] > seen[k]; --place) ordered[place] = ordered[place - 1];
        ordered[place] = seen[k];
    }
    tile[here] = -1;
    cell_of_tile[here] = 0;
    if (count == 0) return;
    const float median = (ordered[(count - 1) / 2] + ordered[count / 2]) / 2.0f;
    float least = 0.0f;
    for (int k = 0; k < depth; ++k) {
        const int who = candidate[k * grid + here];
        if (who < 0 || (any && !look[who])) continue;
        float worse = (fit[k] - best_fit) / (best_fit + 0.01f);
        worse = worse < 2.0f ? worse : 2.0f;
        const float odd = seen[k] > median ? seen[k] - median : median - seen[k];
        float cost = border[k * grid + here] + 0.5f * worse;
        cost = cost + 0.25f * odd / (odd + 1.0f);
        if (before != nullptr) {
            const int up = before[clamped(y - 1, 0, rows - 1) * columns + x];
            const int down = before[clamped(y + 1, 0, rows - 1) * columns + x];
            const int left = before[y * columns + clamped(x - 1, 0, columns - 1)];
            const int right = before[y * columns + clamped(x + 1, 0, columns - 1)];
            const int strangers = (who != up) + (who != down) + (who != left) + (who != right);
            cost = cost + 0.075f * (float)strangers;
        }
        if (tile[here] < 0 || cost < least) {
            least = cost;
            tile[here] = who;
            cell_of_tile[here] = cell[k * grid + here];
        }
    }
}
EXPORT_LAUNCH(
    choose,
    (const int32_t *candidate, const int32_t *cell, const float *border, int depth, int rows, int columns,
     int cells_a_tile, const float *level, const float *misfit, const int32_t *before, const int32_t *look,
     int32_t *tile, int32_t *cell_of_tile),
    (candidate, cell, border, depth, rows, columns, cells_a_tile, level, misfit, before, look, tile, cell_of_tile))

// The map of the padded golden image from the tile that is heard at each region. A thread a pixel.
extern "C" __global__ void gather(
    const float *__restrict__ scores, int tile_px, const int32_t *__restrict__ tile, const int32_t *__restrict__ cell,
    int height, int width, float *__restrict__ out) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const int region = (y / REGION) * (width / REGION) + x / REGION, side = tile_px / REGION, who = tile[region];
    const int row = cell[region] / side * REGION + y % REGION, column = cell[region] % side * REGION + x % REGION;
    out[(int64_t)y * width + x] = who < 0 ? 0.0f : scores[((int64_t)who * tile_px + row) * tile_px + column];
}
EXPORT_LAUNCH(
    gather,
    (const float *scores, int tile_px, const int32_t *tile, const int32_t *cell, int height, int width, float *out),
    (scores, tile_px, tile, cell, height, width, out))

// The small map that goes to the host: per region of the golden image the highest calibrated score, or, where that is
// below KEPT_FROM in any case, what it cannot exceed. map (.., row_px) and gain (height, width) of the golden image; peak
// (n, cells_a_tile) of the tiles' regions; tile, cell: who is heard; most_gain: the highest gain in each region. A thread
// a region.
extern "C" __global__ void region_scores(
    const float *__restrict__ map, const float *__restrict__ gain, int height, int width, int row_px,
    const float *__restrict__ peak, int cells_a_tile, const int32_t *__restrict__ tile,
    const int32_t *__restrict__ cell, const float *__restrict__ most_gain, float *__restrict__ out) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    const int columns = (width + REGION - 1) / REGION, rows = (height + REGION - 1) / REGION;
    if (x >= columns || y >= rows) return;
    const int here = y * columns + x;
    const float bound = tile[here] < 0 ? 0.0f : peak[(int64_t)tile[here] * cells_a_tile + cell[here]] * most_gain[here];
    float most = bound;
    if (!(bound < KEPT_FROM)) {
        most = 0.0f;
        for (int r = y * REGION; r < height && r < (y + 1) * REGION; ++r)
            for (int c = x * REGION; c < width && c < (x + 1) * REGION; ++c) {
                const float value = map[(int64_t)r * row_px + c] * gain[(int64_t)r * width + c];
                if (value > most || value != value) most = value;
            }
    }
    out[here] = most;
}
EXPORT_LAUNCH(
    region_scores,
    (const float *map, const float *gain, int height, int width, int row_px, const float *peak, int cells_a_tile,
     const int32_t *tile, const int32_t *cell, const float *most_gain, float *out),
    (map, gain, height, width, row_px, peak, cells_a_tile, tile, cell, most_gain, out))

__device__ __forceinline__ float calibrated(
    const float *map, const float *gain, int height, int width, int row_px, int x, int y) {
    x = clamped(x, 0, width - 1);
    y = clamped(y, 0, height - 1);
    return map[(int64_t)y * row_px + x] * gain[(int64_t)y * width + x];
}

// Whether a region of the small map may reach 1 among those that golden pixels x0..x1, y0..y1 lie in.
__device__ __forceinline__ bool may_reach_one(
    const float *small, int height, int width, int x0, int x1, int y0, int y1) {
    const int columns = (width + REGION - 1) / REGION;
    const int left = clamped(x0, 0, width - 1) / REGION, right = clamped(x1, 0, width - 1) / REGION;
    const int top = clamped(y0, 0, height - 1) / REGION, bottom = clamped(y1, 0, height - 1) / REGION;
    for (int r = top; r <= bottom; ++r)
        for (int c = left; c <= right; ++c)
            if (!(small[r * columns + c] < 1.0f)) return true;
    return false;
}

// The frame's mask, one bit a pixel, most significant first, rows padded to whole bytes: calibrated score >= 1, warped
// back to the camera's pixels; and in `values` (frame_h, frame_w) that score, written where a bit is set alone. map
// (.., row_px) and gain (height, width) of the golden image; small: what `region_scores` gave; matrix: 2 x 3 in 1/2^32,
// frame pixels -> golden pixels. A mean of numbers below 1 is below 1, so only what lies near a region that reaches 1 is
// looked at: next to nothing of a good board. A thread eight pixels.
extern "C" __global__ void mask_bits(
    const float *__restrict__ map, const float *__restrict__ gain, int height, int width, int row_px,
    const float *__restrict__ small, const int64_t *__restrict__ matrix, int frame_h, int frame_w,
    uint8_t *__restrict__ out, float *__restrict__ values) {
    const int byte = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    const int bytes = (frame_w + 7) / 8;
    if (byte >= bytes || y >= frame_h) return;
    const int64_t half = (int64_t)1 << 23;
    const int first = byte * 8, last = first + 7 < frame_w ? first + 7 : frame_w - 1;
    const int64_t row_x = matrix[1] * y + matrix[2] + half, row_y = matrix[4] * y + matrix[5] + half;
    const int ax = (int)((matrix[0] * first + row_x) >> 32), bx = (int)((matrix[0] * last + row_x) >> 32);
    const int ay = (int)((matrix[3] * first + row_y) >> 32), by = (int)((matrix[3] * last + row_y) >> 32);
    int bits = 0;
    if (may_reach_one(
            small, height, width, ax < bx ? ax : bx, (ax < bx ? bx : ax) + 1, ay < by ? ay : by, (ay < by ? by : ay) + 1))
        for (int x = first; x <= last; ++x) {
            const int64_t gx = matrix[0] * x + row_x, gy = matrix[3] * x + row_y;
            const int px = (int)(gx >> 32), py = (int)(gy >> 32);
            const float fx = (float)((int)(gx >> 24) & 255) / 256.0f, fy = (float)((int)(gy >> 24) & 255) / 256.0f;
            const float a = calibrated(map, gain, height, width, row_px, px, py);
            const float b = calibrated(map, gain, height, width, row_px, px + 1, py);
            const float c = calibrated(map, gain, height, width, row_px, px, py + 1);
            const float d = calibrated(map, gain, height, width, row_px, px + 1, py + 1);
            const float above = a * (1.0f - fx) + b * fx, below = c * (1.0f - fx) + d * fx;
            const float value = above * (1.0f - fy) + below * fy;
            if (value >= 1.0f) {
                bits |= 128 >> (x - first);
                values[(int64_t)y * frame_w + x] = value;
            }
        }
    out[(int64_t)y * bytes + byte] = (uint8_t)bits;
}
EXPORT_LAUNCH(
    mask_bits,
    (const float *map, const float *gain, int height, int width, int row_px, const float *small, const int64_t *matrix,
     int frame_h, int frame_w, uint8_t *out, float *values),
    (map, gain, height, width, row_px, small, matrix, frame_h, frame_w, out, values))

#include "look.cuh"
