# longspan/_cuda: an op's folder has its kernels in cuda*.cu and their binding in bind_cuda.cpp. Files named *_sm90* are
# for sm_90a alone, and left out where that is not asked for.
set(CMAKE_CUDA_ARCHITECTURES OFF)  # the flags below say it: CMake's own list does not know every architecture
enable_language(CUDA)
find_package(CUDAToolkit 12.8 REQUIRED)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26 has not heard that nvcc takes it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()

set(LONGSPAN_CUDA_OPS binarize hamming span_mean)
set(cuda_sources csrc/cuda_module.cpp csrc/hamming/cuda_scan.cu csrc/hamming/cuda_select.cu csrc/hamming/cuda_tiles.cu)
foreach(op IN LISTS LONGSPAN_CUDA_OPS)
  list(APPEND cuda_sources csrc/${op}/cuda.cu csrc/${op}/bind_cuda.cpp)
endforeach()

set(cuda_flags "")
foreach(arch IN LISTS LONGSPAN_CUDA_ARCHITECTURES)
  list(APPEND cuda_flags "-gencode=arch=compute_${arch},code=sm_${arch}")
endforeach()
list(GET LONGSPAN_CUDA_ARCHITECTURES -1 newest)
if(NOT newest MATCHES "[af]$")  # instructions of one architecture alone have no PTX for others
  list(APPEND cuda_flags "-gencode=arch=compute_${newest},code=compute_${newest}")
endif()

if("90a" IN_LIST LONGSPAN_CUDA_ARCHITECTURES)
  add_library(_cuda_sm90 OBJECT csrc/attention_varlen/cuda_sm90.cu csrc/attention_varlen/cuda_sm90_tiles.cu)
  target_include_directories(_cuda_sm90 PRIVATE csrc)
  target_compile_options(_cuda_sm90 PRIVATE "-gencode=arch=compute_90a,code=sm_90a")
  set_target_properties(_cuda_sm90 PROPERTIES CUDA_RUNTIME_LIBRARY Static POSITION_INDEPENDENT_CODE ON
                                              CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  list(APPEND cuda_sources csrc/attention_varlen/bind_cuda.cpp $<TARGET_OBJECTS:_cuda_sm90>)
endif()

pybind11_add_module(_cuda MODULE NO_EXTRAS ${cuda_sources})
target_include_directories(_cuda PRIVATE csrc)
target_compile_definitions(_cuda PRIVATE LONGSPAN_SM90A=$<BOOL:$<TARGET_EXISTS:_cuda_sm90>>)
# The static runtime: the one that a torch beside us has loaded may be of another version.
target_link_libraries(_cuda PRIVATE CUDA::cudart_static)
set_target_properties(_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static CXX_VISIBILITY_PRESET hidden
                                       CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:${cuda_flags}>
                                     $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unknown-pragmas>
                                     $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${LONGSPAN_WERROR}>>:-Werror>)
if(LONGSPAN_INPLACE)
  set_target_properties(_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/python/longspan)
endif()
install(TARGETS _cuda LIBRARY DESTINATION longspan)
