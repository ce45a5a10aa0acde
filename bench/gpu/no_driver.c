// libcuda.so.1 without a device: it loads and launches nothing, and notes what it is told to launch. Where there is no
// driver, Triton builds its ways to a launch against it (no_device.py): for a cache that another machine takes along,
// and for the test that follows a launch to its end (tests/kernels/test_launch.py).
#include <string.h>

#include "cuda.h"

#define MOST_PARAMETERS 64
#define MOST_LAUNCHES 256

// Of each launch: grid, threads, bytes of shared memory, then eight bytes from each parameter's address on, of which a
// parameter's own size counts.
typedef struct {
  unsigned long long grid[3], threads, shared, parameters[MOST_PARAMETERS];
} Launch;

static Launch launches[MOST_LAUNCHES];
static int num_launches, num_parameters;

// How many parameters the next launches have: a launch itself does not say.
void expect_parameters(int count) { num_parameters = count < MOST_PARAMETERS ? count : MOST_PARAMETERS; }
int launches_made(void) { return num_launches; }
const Launch* launch_at(int number) { return &launches[number % MOST_LAUNCHES]; }

CUresult CUDAAPI cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra) {
  (void)function, (void)extra;
  Launch* launch = &launches[num_launches++ % MOST_LAUNCHES];
  launch->grid[0] = config->gridDimX, launch->grid[1] = config->gridDimY, launch->grid[2] = config->gridDimZ;
  launch->threads = config->blockDimX, launch->shared = config->sharedMemBytes;
  for (int i = 0; i < num_parameters; ++i) memcpy(&launch->parameters[i], parameters[i], 8);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr pointer) {
  (void)attribute;
  *(CUdeviceptr*)data = pointer;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes, void** data,
                                        CUdeviceptr pointer) {
  (void)attributes;
  for (unsigned int i = 0; i < count; ++i) *(CUdeviceptr*)data[i] = pointer;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleLoadData(CUmodule* module, const void* image) {
  *module = (CUmodule)image;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  (void)module, (void)name;
  *function = (CUfunction)1;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  (void)function;
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  (void)attribute, (void)device;
  *value = 232448;  // what is asked for in earnest is the shared memory that a block may have
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char** text) {
  (void)error;
  *text = "there is no device";
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGet(CUdevice* device, int number) {
  *device = number;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext* context) {
  *context = (CUcontext)1;
  return CUDA_SUCCESS;
}

// The rest is there to be linked against.
#define DOES_NOTHING(name, ...) \
  CUresult CUDAAPI name(__VA_ARGS__) { return CUDA_SUCCESS; }
DOES_NOTHING(cuCtxSetCurrent, CUcontext context)
DOES_NOTHING(cuCtxGetDevice, CUdevice* device)
DOES_NOTHING(cuCtxGetLimit, size_t* value, CUlimit limit)
DOES_NOTHING(cuCtxSetLimit, CUlimit limit, size_t value)
DOES_NOTHING(cuDeviceGetCount, int* count)
DOES_NOTHING(cuDevicePrimaryCtxRetain, CUcontext* context, CUdevice device)
DOES_NOTHING(cuDriverGetVersion, int* version)
DOES_NOTHING(cuFuncSetAttribute, CUfunction function, CUfunction_attribute attribute, int value)
DOES_NOTHING(cuFuncSetCacheConfig, CUfunction function, CUfunc_cache config)
DOES_NOTHING(cuInit, unsigned int flags)
DOES_NOTHING(cuModuleUnload, CUmodule module)
DOES_NOTHING(cuStreamIsCapturing, CUstream stream, CUstreamCaptureStatus* status)
