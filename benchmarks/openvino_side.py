"""One measurement in OpenVINO GenAI, in a process of its own; side_by_side starts it.

Standard input: a job as src/bench/job.h describes it (a line of JSON, then 32-bit token ids).
Standard output: a line of JSON with the figures.
"""

import json
import sys

import numpy
import openvino
import openvino_genai as genai

WARM_UP_TOKENS = 512


def main():
    header = sys.stdin.buffer.readline()
    job = json.loads(header)
    prompt = numpy.frombuffer(sys.stdin.buffer.read(), dtype=numpy.int32).astype(numpy.int64)

    scheduler = genai.SchedulerConfig()
    # The whole prompt in one step: the fastest way for one user, and what it costs in memory.
    scheduler.max_num_batched_tokens = max(2048, len(prompt))
    # The warm-up is the beginning of the prompt, which is to be read again when it counts.
    scheduler.enable_prefix_caching = False
    pipeline = genai.LLMPipeline(
        job["model"], "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=job["threads"]
    )

    def generate(ids, count):
        config = genai.GenerationConfig()
        config.max_new_tokens = count
        config.do_sample = False
        config.ignore_eos = True
        ids = ids.reshape(1, -1)
        inputs = genai.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids))
        )
        return pipeline.generate(inputs, config)

    generate(prompt[:WARM_UP_TOKENS], 2)
    # The first token comes with the prompt: one more, so that `decode` of them are decoded.
    result = generate(prompt, job["decode"] + 1)
    metrics = result.perf_metrics
    print(
        json.dumps(
            {
                "prefill_seconds": metrics.get_ttft().mean / 1000,
                "decode_seconds": metrics.get_tpot().mean / 1000 * job["decode"],
                "decoded": list(result.tokens[0])[: job["decode"]],
            }
        )
    )


if __name__ == "__main__":
    main()
