// As much of NVIDIA's driver as pycuda and the line ask for, on the host's memory and processor, so that the code that
// calls it runs where there is no GPU. Streams are threads: their work runs beside each other and beside the caller, as
// on a GPU, and whoever forgets to wait reads too early. What a GPU forgives, or punishes later, is an error at once:
// addresses and lengths outside of an allocation, copies of memory that is not page-locked, the default stream, memory
// freed twice, waiting or allocating while this thread records a graph. EMULATED_GPU_DIES=N: run N of a kernel and all
// calls after it fail as those of a context that is lost. EMULATED_GPU_ARCH=90: its compute capability, 8.6 by default;
// it takes no image without machine code or PTX for that.
#include <cuda.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "../../../hisir_edge/cuda/kernels.cu"

using Work = std::function<void()>;
using Clock = std::chrono::steady_clock;

static std::mutex memory_lock;
static std::map<uint64_t, size_t> device_memory, pinned_memory;
static std::atomic<bool> lost{false};
static std::atomic<long> launches{0};
static thread_local int capturing = 0;
static std::atomic<int> captures{0};
static thread_local std::vector<CUcontext> contexts;
static const size_t TOTAL = size_t(8) << 30;
static char the_context;

static int arch() {
    const char *said = getenv("EMULATED_GPU_ARCH");
    return said ? atoi(said) : 86;
}

// Whether a fatbin has a part that this GPU runs: 1 is PTX, 2 machine code, each behind a header of its own.
static bool runs(const char *image) {
    struct { uint32_t magic; uint16_t version, header; uint64_t bytes; } whole;
    struct {
        uint16_t kind, version;
        uint32_t header;
        uint64_t bytes;
        uint32_t packed, rest;
        uint16_t minor, major;
        uint32_t arch;
    } part;
    memcpy(&whole, image, sizeof whole);
    if (whole.magic != 0xBA55ED50) return false;
    const char *at = image + whole.header, *end = at + whole.bytes;
    for (; at < end; at += part.header + part.bytes) {
        memcpy(&part, at, sizeof part);
        int made_for = int(part.arch), here = arch();
        if (part.kind == 1 ? made_for <= here : made_for / 10 == here / 10 && made_for <= here) return true;
    }
    return false;
}

struct CUgraph_st {
    std::vector<Work> steps;
};
struct CUgraphExec_st {
    std::vector<Work> steps;
};
struct CUevent_st {
    bool timed;
    std::mutex lock;
    std::condition_variable over;
    uint64_t recorded = 0, reached = 0;
    Clock::time_point at;
};

struct CUstream_st {
    std::mutex lock;
    std::condition_variable more, idle;
    std::deque<Work> work;
    bool ends = false, busy = false;
    std::unique_ptr<CUgraph_st> graph;
    std::thread thread{[this] { run(); }};

    void run() {
        std::unique_lock<std::mutex> held(lock);
        for (;;) {
            more.wait(held, [this] { return ends || !work.empty(); });
            if (work.empty()) break;
            Work one = std::move(work.front());
            work.pop_front();
            busy = true;
            held.unlock();
            if (!lost) one();
            held.lock();
            busy = false;
            if (work.empty()) idle.notify_all();
        }
        held.unlock();
        delete this;
    }
    void put(Work one) {
        if (graph) {
            graph->steps.push_back(std::move(one));
            return;
        }
        std::lock_guard<std::mutex> held(lock);
        work.push_back(std::move(one));
        more.notify_one();
    }
    void wait() {
        std::unique_lock<std::mutex> held(lock);
        idle.wait(held, [this] { return work.empty() && !busy; });
    }
    // Its work goes on to its end, as on a GPU: the caller may hold what that waits for, such as Python's lock.
    void destroy() {
        std::lock_guard<std::mutex> held(lock);
        thread.detach();
        ends = true;
        more.notify_one();
    }
};

static CUresult checked() { return lost ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_SUCCESS; }
#define ALIVE                                                                                                         \
    if (lost) return CUDA_ERROR_ILLEGAL_ADDRESS
#define CURRENT                                                                                                       \
    ALIVE;                                                                                                             \
    if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT
#define NOT_WHILE_CAPTURING                                                                                           \
    if (capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

static bool within(const std::map<uint64_t, size_t> &memory, uint64_t at, size_t bytes) {
    std::lock_guard<std::mutex> held(memory_lock);
    auto next = memory.upper_bound(at);
    if (next == memory.begin()) return false;
    --next;
    return at >= next->first && at + bytes <= next->first + next->second;
}
static bool ours(CUdeviceptr at, size_t bytes) { return within(device_memory, at, bytes); }
static bool pinned(const void *at, size_t bytes) { return within(pinned_memory, (uint64_t)at, bytes); }

static CUresult give(std::map<uint64_t, size_t> &memory, uint64_t *out, size_t bytes) {
    NOT_WHILE_CAPTURING;
    CURRENT;
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    std::lock_guard<std::mutex> held(memory_lock);
    size_t used = 0;
    for (auto &one : device_memory) used += one.second;
    if (used + bytes > TOTAL) return CUDA_ERROR_OUT_OF_MEMORY;
    void *made = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(made, 0xA5, bytes);
    memory[(uint64_t)made] = bytes;
    *out = (uint64_t)made;
    return CUDA_SUCCESS;
}
static CUresult take_back(std::map<uint64_t, size_t> &memory, uint64_t at) {
    NOT_WHILE_CAPTURING;
    ALIVE;  // what runs in other streams may still use it
    std::lock_guard<std::mutex> held(memory_lock);
    if (!memory.erase(at)) return CUDA_ERROR_INVALID_VALUE;
    free((void *)at);
    return checked();
}

extern "C" {
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { return *version = CUDA_VERSION, CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult, const char **text) { return *text = "emulated", CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult code, const char **text) {
    static thread_local char said[40];
    snprintf(said, sizeof said, "emulated error %d", (int)code);
    return *text = said, CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) { return *count = 1, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int index) {
    return *device = 0, index ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice) {
    return snprintf(name, length, "emulated on a CPU"), CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) { return *bytes = TOTAL, CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice) {
    *value = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? arch() / 10
             : which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? arch() % 10
             : which == CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK    ? 1024
                                                                     : 1;
    return CUDA_SUCCESS;
}
CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice) {
    return *major = arch() / 10, *minor = arch() % 10, CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
    return *context = (CUcontext)&the_context, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxPushCurrent(CUcontext context) { return contexts.push_back(context), CUDA_SUCCESS; }
CUresult cuCtxPopCurrent(CUcontext *context) {
    if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = contexts.back();
    return contexts.pop_back(), CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    return *context = contexts.empty() ? nullptr : contexts.back(), CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) { return *device = 0, CUDA_SUCCESS; }
CUresult cuCtxGetApiVersion(CUcontext, unsigned *version) { return *version = 3020, CUDA_SUCCESS; }
CUresult cuCtxSynchronize() {
    if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;  // whichever thread records
    CURRENT;
    return CUDA_SUCCESS;
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total) {
    CURRENT;
    std::lock_guard<std::mutex> held(memory_lock);
    size_t used = 0;
    for (auto &one : device_memory) used += one.second;
    return *free_bytes = TOTAL - used, *total = TOTAL, CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr *out, size_t bytes) { return give(device_memory, (uint64_t *)out, bytes); }
CUresult cuMemFree(CUdeviceptr at) { return take_back(device_memory, at); }
CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned) { return give(pinned_memory, (uint64_t *)out, bytes); }
CUresult cuMemAllocHost(void **out, size_t bytes) { return give(pinned_memory, (uint64_t *)out, bytes); }
CUresult cuMemFreeHost(void *at) { return take_back(pinned_memory, (uint64_t)at); }
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
    NOT_WHILE_CAPTURING;
    CURRENT;
    if (!ours(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return memcpy((void *)to, from, bytes), CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    CURRENT;
    if (!stream || !ours(to, bytes) || !pinned(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return stream->put([=] { memcpy((void *)to, from, bytes); }), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    CURRENT;
    if (!stream || !ours(from, bytes) || !pinned(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return stream->put([=] { memcpy(to, (void *)from, bytes); }), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    CURRENT;
    if (!stream || !ours(from, bytes) || !ours(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return stream->put([=] { memcpy((void *)to, (void *)from, bytes); }), CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    CURRENT;
    if (flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;  // it would wait for the default stream
    return *stream = new CUstream_st, CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) { return stream->destroy(), checked(); }
CUresult cuStreamSynchronize(CUstream stream) {
    NOT_WHILE_CAPTURING;
    CURRENT;
    return stream->wait(), checked();
}
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn call, void *data) {
    CURRENT;
    if (!stream) return CUDA_ERROR_INVALID_VALUE;
    return stream->put([=] { call(data); }), CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
    CURRENT;
    if (stream->graph || mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) return CUDA_ERROR_INVALID_VALUE;
    ++capturing, ++captures;
    return stream->graph.reset(new CUgraph_st), CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    if (!stream->graph) return CUDA_ERROR_INVALID_VALUE;
    --capturing, --captures;
    return *graph = stream->graph.release(), checked();
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long) {
    return *made = new CUgraphExec_st{graph->steps}, checked();
}
CUresult cuGraphDestroy(CUgraph graph) { return delete graph, CUDA_SUCCESS; }
CUresult cuGraphExecDestroy(CUgraphExec made) { return delete made, CUDA_SUCCESS; }
CUresult cuGraphLaunch(CUgraphExec made, CUstream stream) {
    CURRENT;
    for (auto &step : made->steps) stream->put(step);
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
    CURRENT;
    return *event = new CUevent_st{}, (*event)->timed = !(flags & CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
    ALIVE;
    return delete event, CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
    CURRENT;
    if (!stream || stream->graph) return CUDA_ERROR_INVALID_VALUE;
    uint64_t number;
    {
        std::lock_guard<std::mutex> held(event->lock);
        number = ++event->recorded;
    }
    stream->put([=] {
        std::lock_guard<std::mutex> held(event->lock);
        event->reached = number;
        event->at = Clock::now();
        event->over.notify_all();
    });
    return CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent event) {
    NOT_WHILE_CAPTURING;
    CURRENT;
    std::unique_lock<std::mutex> held(event->lock);
    while (event->reached < event->recorded && !lost) event->over.wait_for(held, std::chrono::milliseconds(20));
    return checked();
}
CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end) {
    CURRENT;
    if (!start->timed || !end->timed) return CUDA_ERROR_INVALID_HANDLE;
    std::scoped_lock held(start->lock, end->lock);
    if (start->reached < start->recorded || end->reached < end->recorded) return CUDA_ERROR_NOT_READY;
    return *ms = std::chrono::duration<float, std::milli>(end->at - start->at).count(), CUDA_SUCCESS;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned, CUjit_option *, void **) {
    CURRENT;
    if (!runs((const char *)image)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    return *module = (CUmodule)&the_context, CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}
CUresult cuModuleLoadFatBinary(CUmodule *module, const void *image) {
    return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
}

// A kernel's arguments out of the buffer that pycuda packs, each at a multiple of its own size.
template <class T>
static T next_of(const char *buffer, size_t &at) {
    at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
    T value;
    memcpy(&value, buffer + at, sizeof value);
    at += sizeof value;
    return value;
}
template <class... A>
static size_t taken(const char *buffer, std::tuple<A...> &into) {
    size_t at = 0;
    std::apply([&](A &...each) { ((each = next_of<A>(buffer, at)), ...); }, into);
    return at;
}
using Launcher = std::function<Work(std::vector<unsigned>, std::vector<unsigned>, const char *, size_t)>;
template <class... A>
static Launcher launcher(void (*kernel)(const unsigned *, const unsigned *, A...)) {
    return [kernel](std::vector<unsigned> grid, std::vector<unsigned> block, const char *buffer, size_t length) -> Work {
        std::tuple<A...> arguments;
        if (taken(buffer, arguments) != length) return nullptr;
        bool good = true;
        auto look = [&good](auto value) {
            if constexpr (std::is_pointer_v<decltype(value)>)
                good = good && (!value || ours((CUdeviceptr)value, sizeof *value));
        };
        std::apply([&](auto... each) { (look(each), ...); }, arguments);
        if (!good) return nullptr;
        return [=] { std::apply([&](auto... each) { kernel(grid.data(), block.data(), each...); }, arguments); };
    };
}
static const std::map<std::string, Launcher> KERNELS = {
#define KERNEL(name) {#name, launcher(name##_launch)}
    KERNEL(tiles_u8), KERNEL(tiles_f16), KERNEL(region_figures), KERNEL(choose),
    KERNEL(gather),   KERNEL(region_scores), KERNEL(mask_bits),
};

extern "C" {
CUresult cuModuleGetFunction(CUfunction *function, CUmodule, const char *name) {
    auto found = KERNELS.find(name);
    if (found == KERNELS.end()) return CUDA_ERROR_NOT_FOUND;
    return *function = (CUfunction)&found->second, CUDA_SUCCESS;
}
CUresult cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; }
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute, CUfunction) { return *value = 0, CUDA_SUCCESS; }
CUresult cuLaunchKernel(
    CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned,
    CUstream stream, void **, void **extra) {
    CURRENT;
    const char *buffer = nullptr;
    size_t length = 0;
    for (void **one = extra; one && *one != CU_LAUNCH_PARAM_END; one += 2) {
        if (*one == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = (const char *)one[1];
        if (*one == CU_LAUNCH_PARAM_BUFFER_SIZE) length = *(size_t *)one[1];
    }
    if (!stream || !buffer || !gx || !gy || !gz || gy > 65535 || gz > 65535 || bx * by * bz > 1024)
        return CUDA_ERROR_INVALID_VALUE;
    Work work = (*(const Launcher *)function)({gx, gy, gz}, {bx, by, bz}, buffer, length);
    if (!work) return CUDA_ERROR_INVALID_VALUE;
    return stream->put([=] {
        static const char *dies = getenv("EMULATED_GPU_DIES");
        if (dies && ++launches >= atol(dies)) lost = true;
        if (!lost) work();
    }), CUDA_SUCCESS;
}
}
