// Shared helpers of the tests live in this folder; each has its own header.
