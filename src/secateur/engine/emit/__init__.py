"""Writing kernels as LLVM IR."""
