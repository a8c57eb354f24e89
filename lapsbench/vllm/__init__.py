"""lapsbench inside vLLM: the plug-in schedulers, and the referee. The only package that imports vllm."""
