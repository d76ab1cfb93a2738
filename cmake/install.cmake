# Installs the libraries, their headers, the command line and a CMake package with two components,
# `core` (arrays only) and `restkv` (models too).
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/restkv)

install(TARGETS restkv_core EXPORT restkv-core ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS restkv EXPORT restkv-restkv ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
# CMake leaves libraries below the source folder (build/venv) out of the link path that it keeps.
cmake_path(GET llama_LIBRARY PARENT_PATH llama_library_dir)
set_target_properties(restkv_cli PROPERTIES INSTALL_RPATH ${llama_library_dir})
install(TARGETS restkv_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/restkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

foreach(component core restkv)
  install(EXPORT restkv-${component} FILE restkv-${component}.cmake
          NAMESPACE restkv:: DESTINATION ${package_dir})
endforeach()

configure_package_config_file(cmake/restkv-config.cmake.in restkv-config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(restkv-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/restkv-config.cmake
              ${PROJECT_BINARY_DIR}/restkv-config-version.cmake
        DESTINATION ${package_dir})
