"""Makes the files that fuzzing of data begins with, as small as each format allows. pip install numpy pillow safetensors torch==2.*; python seeds_files.py"""
import io, json, os, pickle, tarfile, zipfile
import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save as safetensors

out = "corpus/files/seed-"
os.makedirs("corpus/files", exist_ok=True)
noise = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
image = (noise - 4) / 8
label = np.array([0, 1])


def write(name, data):
    open(out + name, "wb").write(data)


def into(save, *values, **named):
    buffer = io.BytesIO()
    save(buffer, *values, **named)
    return buffer.getvalue()


def picture(kind, mode="RGB", **options):
    return into(Image.new(mode, (2, 2), 90).save, kind, **options)


write("pairs.npz", into(np.savez, noise=noise, image=image, label=label))
write("packed.npz", into(np.savez_compressed, noise=noise, image=image.astype(np.float16)))
write("images.npz", into(np.savez, images=np.zeros((2, 4, 4, 3), np.uint8), labels=label))
write("statistics.npz", into(np.savez, mu=np.zeros(2), sigma=np.eye(2)))
write("features.npz", into(np.savez, pool_3=noise.reshape(2, 4)))
write("path.npy", into(np.save, np.asfortranarray(noise.reshape(2, 2, 2))))
write("half.npy", into(np.save, noise.astype(">f2")))
write("pairs.pt", into(lambda b: torch.save({"noise": torch.tensor(noise), "image": torch.tensor(image).half()}, b)))
write("pairs.safetensors", safetensors({"noise": noise, "image": image, "label": label}))
write("statistics.pkl", pickle.dumps({"fid": {"mu": np.zeros(2), "sigma": np.eye(2)}}, 2))
write("cifar.pkl", pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1]}, 2))
for kind, mode in [("png", "RGB"), ("png", "L"), ("png", "P"), ("jpeg", "RGB"), ("jpeg", "CMYK"), ("gif", "P"), ("bmp", "RGB"), ("webp", "RGB"), ("tiff", "I;16")]:
    write(f"{mode[0]}.{kind}", picture(kind, mode))
with zipfile.ZipFile(out + "images.zip", "w") as z:
    for i in range(2):
        z.writestr(f"00000/img{i:08}.png", picture("png"))
    z.writestr("dataset.json", json.dumps({"labels": [["00000/img00000000.png", 0], ["00000/img00000001.png", 1]]}))
for name, members in {
    "images.tar": {"a/0.png": picture("png"), "b/" + "x" * 120 + ".png": picture("png")},
    "pairs.tar": {"0.noise.npy": into(np.save, noise[0]), "0.latent.npy": into(np.save, image[0]), "0.cls": b"1"},
}.items():
    with tarfile.open(out + name, "w") as t:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
write("annotations.json", json.dumps({"0": {"latent": "a.npy", "image": "b.png", "label": 1}}).encode())
