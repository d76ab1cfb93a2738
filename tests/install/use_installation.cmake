# Installs into a scratch prefix, then configures, builds and runs a consumer of one component.
file(REMOVE_RECURSE ${scratch_dir})

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

set(without)
if(component STREQUAL "core")
  # `core` alone must not need what only models need, even where it happens to be installed.
  foreach(package llama ggml dnnl)
    list(APPEND without -D CMAKE_DISABLE_FIND_PACKAGE_${package}=TRUE)
  endforeach()
endif()

run(${CMAKE_COMMAND} --install ${build_dir} --prefix ${scratch_dir}/prefix)
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer -B ${scratch_dir}/build -G ${generator}
    -D CMAKE_CXX_COMPILER=${compiler} -D CMAKE_PREFIX_PATH=${scratch_dir}/prefix
    -D CONSUMER_COMPONENT=${component} ${without})
run(${CMAKE_COMMAND} --build ${scratch_dir}/build)
run(${scratch_dir}/build/consumer)
if(component STREQUAL "core")
  run(${scratch_dir}/build/outside_method)
endif()
# The examples, built as their reader would.
set(with_models OFF)
if(component STREQUAL "restkv")
  set(with_models ON)
endif()
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/../../examples -B ${scratch_dir}/examples
    -G ${generator} -D CMAKE_CXX_COMPILER=${compiler} -D WITH_MODELS=${with_models}
    -D CMAKE_PREFIX_PATH=${scratch_dir}/prefix ${without})
run(${CMAKE_COMMAND} --build ${scratch_dir}/examples)
execute_process(COMMAND ${scratch_dir}/examples/evict_tensors OUTPUT_VARIABLE changes COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCH "restkv +the next token's attention output changes by ([0-9.]+)%" found "${changes}")
set(by_restkv ${CMAKE_MATCH_1})
string(REGEX MATCH "random +the next token's attention output changes by ([0-9.]+)%" found "${changes}")
if(NOT by_restkv LESS 10 OR NOT CMAKE_MATCH_1 GREATER 20)
  message(FATAL_ERROR "examples/evict_tensors says: ${changes}")
endif()
if(component STREQUAL "restkv")
  file(WRITE ${scratch_dir}/note.txt "The meeting was moved to Thursday, in room 12.")
  execute_process(COMMAND ${scratch_dir}/examples/answer ${model} ${scratch_dir}/note.txt
                          "To which day was the meeting moved?"
                  OUTPUT_VARIABLE answer COMMAND_ERROR_IS_FATAL ANY)
  if(NOT answer MATCHES "Thursday")
    message(FATAL_ERROR "examples/answer said: ${answer}")
  endif()
  execute_process(COMMAND ${scratch_dir}/examples/answer ${model} ${scratch_dir}/none "Where?"
                  RESULT_VARIABLE status ERROR_VARIABLE refusal)
  if(status EQUAL 0 OR NOT refusal MATCHES "cannot be read")
    message(FATAL_ERROR "examples/answer took a file that is not there: ${refusal}")
  endif()
  # The library for C, as `cc` and pkg-config build with it.
  find_program(pkg_config pkg-config REQUIRED)
  file(GLOB_RECURSE pc ${scratch_dir}/prefix/*/restkv.pc)
  cmake_path(GET pc PARENT_PATH pc_dir)
  set(ENV{PKG_CONFIG_PATH} ${pc_dir})
  execute_process(COMMAND ${pkg_config} --cflags --libs restkv OUTPUT_VARIABLE flags
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags)
  find_program(cc NAMES cc gcc clang REQUIRED)
  run(${cc} -std=c11 -Wall -Wextra -Wpedantic -Werror ${CMAKE_CURRENT_LIST_DIR}/../../examples/select.c ${flags}
      -o ${scratch_dir}/select)
  cmake_path(GET pc_dir PARENT_PATH lib_dir)
  run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${lib_dir} ${scratch_dir}/select)
  run(${scratch_dir}/examples/ask ${model} ${scratch_dir}/note.txt "To which day was the meeting moved?")
  # The installed program finds the libraries that the build folder's one finds.
  run(${scratch_dir}/prefix/bin/restkv --version)
endif()
