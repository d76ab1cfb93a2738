# Installs the libraries, their headers, the command line and a CMake package with three components, `core` (arrays
# only), `restkv` (models too) and `c` (the library for C, which needs nothing else), and `c` for pkg-config.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/restkv)

install(TARGETS restkv_core EXPORT restkv-core ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(TARGETS restkv EXPORT restkv-restkv ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(TARGETS restkv_c EXPORT restkv-c LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime)
# CMake leaves libraries below the source folder (build/venv) out of the link path that it keeps.
set_target_properties(restkv_cli restkv_c PROPERTIES INSTALL_RPATH ${RESTKV_LLAMA_RUNTIME_DIR})
if(TARGET MPI::MPI_C)
  set(module_dir ${CMAKE_INSTALL_LIBDIR}/restkv)
  file(RELATIVE_PATH module_from_program /${CMAKE_INSTALL_BINDIR} /${module_dir})
  set_property(TARGET restkv_cli APPEND PROPERTY INSTALL_RPATH "$ORIGIN/${module_from_program}")
  install(TARGETS restkv_mpi LIBRARY DESTINATION ${module_dir} COMPONENT runtime)
endif()
install(TARGETS restkv_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
set(RESTKV_ZSH_DIR ${CMAKE_INSTALL_DATADIR}/zsh/site-functions CACHE STRING "Where zsh looks for completions")
# Manual pages and completions are what the program says of itself.
foreach(made "man:${CMAKE_INSTALL_MANDIR}/man1"
             "bash:${CMAKE_INSTALL_DATADIR}/bash-completion/completions/restkv"
             "zsh:${RESTKV_ZSH_DIR}/_restkv"
             "fish:${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/restkv.fish")
  string(REPLACE ":" ";" made "${made}")
  list(GET made 0 what)
  list(GET made 1 where)
  install(CODE "set(what \"${what}\")
    set(where \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${where}\")
    message(STATUS \"Installing: \${where}\")
    if(what STREQUAL \"man\")
      execute_process(COMMAND \"$<TARGET_FILE:restkv_cli>\" man \"\${where}\" COMMAND_ERROR_IS_FATAL ANY)
    else()
      get_filename_component(folder \"\${where}\" DIRECTORY)
      file(MAKE_DIRECTORY \"\${folder}\")
      execute_process(COMMAND \"$<TARGET_FILE:restkv_cli>\" completion \"\${what}\"
        OUTPUT_FILE \"\${where}\" COMMAND_ERROR_IS_FATAL ANY)
    endif()" COMPONENT runtime)
endforeach()
install(DIRECTORY include/restkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development FILES_MATCHING PATTERN "*.h")
install(FILES include/restkv.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT runtime)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)

foreach(component core restkv c)
  install(EXPORT restkv-${component} FILE restkv-${component}.cmake
          NAMESPACE restkv:: DESTINATION ${package_dir} COMPONENT development)
endforeach()

configure_package_config_file(cmake/restkv-config.cmake.in restkv-config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(restkv-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/restkv-config.cmake
              ${PROJECT_BINARY_DIR}/restkv-config-version.cmake
        DESTINATION ${package_dir} COMPONENT development)

# The file says where it lies relative to the rest, so that an installation may be moved.
file(RELATIVE_PATH pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(src/doors/restkv.pc.in restkv.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/restkv.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT runtime)
