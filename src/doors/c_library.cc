// Nothing but a file for the linker, which takes everything else from the static libraries.
