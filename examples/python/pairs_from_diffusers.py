"""Fills a pair store from a diffusers pipeline, from which `kdm distill` makes a one-step student.

    pip install ./apps/kdm-python torch diffusers
    python pairs_from_diffusers.py google/ddpm-cifar10-32 --count 50000 --steps 50 --out pairs
    python pairs_from_diffusers.py --tiny --count 64 --steps 4 --out pairs     # a random network
    kdm distill --pairs pairs --preset fashion-mnist --out run

MODEL is a folder or a name that `DiffusionPipeline.from_pretrained` takes, with a `UNet2DModel` of
images and a scheduler without noise of its own, such as DDIM: the image must be a function of the
noise x_T. Stop it whenever you like; the same command goes on where it was.
"""

import argparse

import kdm
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DiffusionPipeline, UNet2DModel


def tiny():
    """A pipeline with random weights, to try this with."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        num_class_embeds=3,
    )
    return DDIMPipeline(unet=unet, scheduler=DDIMScheduler())


@torch.no_grad()
def draw(unet, scheduler, steps, noise, labels):
    """Images from noise x_T at its full standard deviation, with no random number on the way."""
    scheduler.set_timesteps(steps)
    classes = {} if labels is None else {"class_labels": labels}
    x = noise
    for time in scheduler.timesteps:
        denoised = unet(scheduler.scale_model_input(x, time), time, **classes).sample
        x = scheduler.step(denoised, time, x).prev_sample
    return x.clamp(-1, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a pipeline's folder or name")
    parser.add_argument("--tiny", action="store_true", help="a random network in place of a model")
    parser.add_argument("--out", required=True, help="the store's folder")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if not (arguments.model or arguments.tiny):
        parser.error("give a model, or --tiny")
    pipeline = tiny() if arguments.tiny else DiffusionPipeline.from_pretrained(arguments.model)
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    unet = pipeline.unet.to(arguments.device).eval()
    scheduler.set_timesteps(arguments.steps)
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size

    with kdm.PairWriter(
        arguments.out,
        shape=(unet.config.in_channels, height, width),
        count=arguments.count,
        noise_std=float(scheduler.init_noise_sigma),
        classes=unet.config.num_class_embeds or 0,
        dtype="u8",
        source=f"{arguments.model or 'a random network'}, DDIM, {arguments.steps} steps",
    ) as writer:
        for batch in writer.batches(arguments.batch):
            noise = torch.from_numpy(batch.noise).to(arguments.device)
            labels = batch.labels
            if labels is not None:
                labels = torch.from_numpy(labels).to(arguments.device)
            images = draw(unet, scheduler, arguments.steps, noise, labels)
            writer.write(images.cpu())
            print(f"\r{writer.done} of {len(writer)} pairs", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
