"""`python -m tb_batchview` is `tb-batchview`."""

from tb_batchview.cli import main

if __name__ == "__main__":
    main(prog_name="tb-batchview")
