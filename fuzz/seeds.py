"""Makes the corpus that fuzzing starts from: files as small as each format allows. pip install torch==2.*; python seeds.py"""
import collections, io, pickle, sys, zipfile
import torch

sys.path.insert(0, ".")
out = "corpus/import/seed-"


def save(name, value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    open(out + name, "wb").write(buffer.getvalue())


small = torch.arange(4.0).reshape(2, 2)
save("dict.pt", {"map_layer0.weight": small, "enc.1x1_conv.weight": small.half()})
save("legacy.pth", {"a.weight": small, "b": small.T}, _use_new_zipfile_serialization=False)
save("parameter.pt", collections.OrderedDict(w=torch.nn.Parameter(small.double())))
save("module.pt", torch.nn.Sequential(collections.OrderedDict(main=torch.nn.Linear(1, 2), swish=torch.nn.SiLU())))
save("list.pt", [small.bfloat16(), small.long()])
for protocol in [2, 3, 4, 5]:
    value = {"ema": small, "n": [1, -2, 2**40, 2.5, None, True, "text", b"bytes"], "t": ((), (1,), (1, 2, 3, 4)), "s": {1}}
    open(f"{out}plain{protocol}.pkl", "wb").write(pickle.dumps(value, protocol))
