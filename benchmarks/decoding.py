"""Decoding speed, in one run and on one thread: ours with a cache, without, and a MusicGen decoder of equal size.

``python benchmarks/decoding.py`` - CPU seconds for 128 frames of 4 codebooks with guidance, after a warm-up; ratios.
"""

from __future__ import annotations

import time

import torch


def main() -> int:
    """Print CPU seconds and ratios."""
    from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

    from v2a_nb.sampling.autoregressive import Sampling, generate_codes
    from v2a_nb.systems.vaura.system import PRESETS, VAuraDecoder

    torch.set_num_threads(1)
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
