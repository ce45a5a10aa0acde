"""Embed a column of Parquet files with Ray Data.

    python -m longspan.integrations.ray_example texts/ vectors/ --model sentence-transformers/all-MiniLM-L6-v2

On this machine it starts a Ray of its own. What changes on a cluster: run it there with RAY_ADDRESS set (or by `ray job
submit`); longspan and its extra `ray` must be installed on every node; every node must see the paths and the model, so
a shared file system or s3://, and a name of the hub or a folder there; `--actors` may then be nearly the cluster's CPUs
over `--cpus`, or with `--gpus 1 --device cuda` its GPUs. The program stays as it is. Some CPUs must be left for reading
and writing: with as many actors as CPUs it waits for ever.
"""

from __future__ import annotations

import argparse
import sys

from longspan.integrations import missing
from longspan.integrations.ray import EncodeBatches

try:
    import ray
    import ray.data
except ImportError as error:
    raise missing("ray", error) from error


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", help="Parquet file or folder with the texts")
    parser.add_argument("target", help="folder for the Parquet files with the vectors")
    parser.add_argument("--model", required=True, help="a folder or a Hugging Face id")
    parser.add_argument("--column", default="text", help="where the texts are (%(default)s)")
    parser.add_argument("--actors", type=int, default=1, help="models that work side by side (%(default)s)")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs, and so threads, of each (%(default)s)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each (%(default)s)")
    parser.add_argument("--device", help="device of the model, such as cuda")
    parser.add_argument("--batch-size", type=int, default=1024, help="texts that an actor gets at once (%(default)s)")
    options = parser.parse_args(argv)
    vectors = ray.data.read_parquet(options.source).map_batches(
        EncodeBatches,
        fn_constructor_kwargs={"model": options.model, "column": options.column, "device": options.device},
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_cpus=options.cpus,
        num_gpus=options.gpus,
        batch_size=options.batch_size,
    )
    vectors.write_parquet(options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
