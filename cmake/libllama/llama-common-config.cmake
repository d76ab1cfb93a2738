# find_package(llama-common): the target `llama-common`. llama.cpp installs this library without its headers.
include(CMakeFindDependencyMacro)
find_dependency(llama HINTS "${CMAKE_CURRENT_LIST_DIR}/../llama")
cmake_path(SET llama-common_prefix NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../../..")
find_library(llama-common_LIBRARY llama-common REQUIRED PATHS "${llama-common_prefix}/lib" NO_DEFAULT_PATH)
if(NOT TARGET llama-common)
  add_library(llama-common SHARED IMPORTED)
  set_target_properties(llama-common PROPERTIES
    IMPORTED_LOCATION "${llama-common_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${llama-common_prefix}/include/llama-common"
    INTERFACE_COMPILE_FEATURES cxx_std_17
    INTERFACE_LINK_LIBRARIES llama)
endif()
