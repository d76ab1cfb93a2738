# Compilers run through ccache where it is there.
find_program(RESTKV_CCACHE ccache)
foreach(language C CXX)
  if(RESTKV_CCACHE AND NOT CMAKE_${language}_COMPILER_LAUNCHER)
    # Relative names are the same in every build folder; precompiled headers need the second; the third spares a run
    # of the preprocessor for every file that is compiled for the first time.
    cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH base)
    set(CMAKE_${language}_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${base}
        CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_DEPEND=1 ${RESTKV_CCACHE})
  endif()
endforeach()
