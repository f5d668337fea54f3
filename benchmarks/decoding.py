"""Decoding speed, in one run and on one thread: ours with a cache, without, and a MusicGen decoder of equal size.

``python benchmarks/decoding.py`` - CPU seconds for 128 frames of 4 codebooks with guidance, after a warm-up; ratios.

``python benchmarks/decoding.py --paper [--device cuda]`` - a step of the published size with guidance. It lasts
as long as its weights take to come out of memory: their bytes a second, beside what plain reading (on a GPU: copying)
of as many bytes reaches in the same run. float32 on a CPU, which takes 6 GB; bfloat16 on a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

CONTEXT, STEPS = 221, 8
"""Positions of a window of the published size, and steps that are timed at its middle."""


def main() -> int:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", action="store_true", help="the published size, against the memory's bandwidth")
    parser.add_argument("--device", default="cpu", help="of --paper (default: cpu)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    return paper(torch.device(args.device)) if args.paper else tiny()


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """CPU seconds of one call, or seconds until a GPU has done it."""
    if device.type == "cpu":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


@torch.no_grad()
def paper(device: torch.device) -> int:
    """A step's bytes of weights a second, beside reading and copying."""
    from v2a_nb.systems.vaura.system import PRESETS, VAuraDecoder

    torch.manual_seed(0)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    c = PRESETS["paper"]
    with device:
        decoder = VAuraDecoder(c, lean=True).to(dtype).eval()
    for weight in decoder.backbone.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    condition = torch.randn(2, CONTEXT + c.num_codebooks - 1, c.visual_width, device=device).to(dtype)
    steps = decoder.cached(condition)
    matrices = [weight for weight in decoder.backbone.parameters() if weight.dim() == 2]
    size = sum(m.numel() * m.element_size() for m in (*matrices, decoder.heads.weight))
    codes = torch.randint(c.codebook_size, (1, c.num_codebooks, 1), device=device)
    steps(codes.expand(-1, -1, CONTEXT // 2))

    def one_step() -> None:
        steps(codes)

    plain = torch.empty(size // 4, dtype=torch.float32, device=device).normal_()
    other = torch.empty_like(plain)
    runs: dict[str, tuple[Callable[[], object], int]] = {"a step, all its weights": (one_step, size)}
    if device.type == "cpu":
        runs["reading as many bytes"] = (plain.sum, size)
    else:  # a copy reads each byte and writes it
        runs["copying as many bytes"] = (lambda: other.copy_(plain), 2 * size)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(STEPS):  # interleaved, so that load falls on all alike; the first time warms up
        for name, (run, _) in runs.items():
            best[name] = min(best[name], seconds_of(run, device))
    rates = {name: count / best[name] / 1e9 for name, (_, count) in runs.items()}
    print(f"{size / 1e9:.2f} GB of weights in {str(dtype).removeprefix('torch.')}, two conditions at once")
    for name, rate in rates.items():
        print(f"{name:26} {1000 * best[name]:8.1f} ms {rate:8.1f} GB/s, {rate / [*rates.values()][-1]:.2f}")
    return 0


def tiny() -> int:
    """CPU seconds and ratios at the shipped size."""
    from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

    from v2a_nb.sampling.autoregressive import Sampling, generate_codes
    from v2a_nb.systems.vaura.system import PRESETS, VAuraDecoder

    torch.manual_seed(0)
    ours = VAuraDecoder(PRESETS["tiny"]).eval()
    torch.nn.init.normal_(ours.heads.weight, std=0.1)
    visual = torch.randn(1, 128, ours.config.visual_dim)
    # the same matmul weights a layer: 4 d^2 + 3 d * 512 (SwiGLU) = 4 d^2 + 2 d * 768
    config = MusicgenDecoderConfig(
        vocab_size=256, hidden_size=192, num_hidden_layers=4, num_attention_heads=4, ffn_dim=768,
        num_codebooks=4, pad_token_id=256, bos_token_id=256,
    )  # fmt: skip
    peer = MusicgenForCausalLM(config).eval()
    for name, value in {
        "decoder_start_token_id": 256,
        "num_beams": 1,
        "num_return_sequences": 1,
        "use_cache": True,
    }.items():
        setattr(peer.generation_config, name, value)
    how = Sampling(guidance=2.0, temperature=1.0, top_k=64)

    def run_ours(cache: bool) -> None:
        generate_codes(ours, visual, how, torch.Generator().manual_seed(0), use_cache=cache)

    def run_peer() -> None:
        with torch.no_grad():
            start = torch.full((4, 1), 256)
            peer.generate(start, max_length=132, do_sample=True, top_k=64, guidance_scale=2.0)

    runs = {
        "ours, cached": lambda: run_ours(True),
        "MusicGen decoder, cached": run_peer,
        "ours, no cache": lambda: run_ours(False),
    }
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()
    for _ in range(3):  # interleaved, so that load falls on all alike
        for name, run in runs.items():
            began = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - began)
    for name, seconds in best.items():
        print(f"{name:26} {seconds:.2f} CPU s, {seconds / best['ours, cached']:.2f} times ours")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
