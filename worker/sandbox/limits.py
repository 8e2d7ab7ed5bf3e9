"""How much of the machine one upload may use, as a function of its size."""

from dataclasses import dataclass

MIB = 2**20
GIB = 2**30


@dataclass(frozen=True)
class Budget:
    """What the child that reads one file is given.

    Attributes:
        wall_s: Seconds until it is killed.
        cpu_s: Seconds of processor time, imports not counted.
        memory_bytes: Address space beyond that of the interpreter and its libraries.
        output_bytes: Size of the largest file it may write, and the most that its input may expand to.
    """

    wall_s: float
    cpu_s: int
    memory_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Limits:
    """Limits of the child, a fixed part and a part that grows with the file.

    Attributes:
        wall_s: Seconds for any file.
        wall_s_per_gib: Further seconds a GiB of the file.
        cpu_s: Seconds of processor time for any file.
        cpu_s_per_gib: Further seconds a GiB of the file.
        memory_bytes: Memory for any file, beyond the interpreter and its libraries.
        memory_per_byte: Further memory a byte of the file; 3 holds the file, its tensors and one copy.
        dataset_bytes: The most that any data set may expand to.
        expanding_bytes: What a small data set may expand to, whatever its size.
        expansion: What a data set may expand to beyond that, a byte of the file. Real images stay below 50; deflate
            itself ends at about 1000.
    """

    wall_s: float = 240.0
    wall_s_per_gib: float = 240.0
    cpu_s: int = 120
    cpu_s_per_gib: int = 120
    memory_bytes: int = GIB
    memory_per_byte: float = 3.0
    dataset_bytes: int = 32 * GIB
    expanding_bytes: int = 256 * MIB
    expansion: int = 100

    def budget(self, purpose: str, file_bytes: int) -> Budget:
        """The limits for one file.

        Args:
            purpose: "checkpoint" or "dataset".
            file_bytes: Size of the file.
        """
        gib = file_bytes / GIB
        if purpose == "checkpoint":
            # The tensors, which may come compressed or overlap (`tensor_checks.MAX_OVERLAP`), and a header of our own.
            output_bytes = 2 * file_bytes + 16 * MIB
        else:
            output_bytes = min(self.dataset_bytes, self.expanding_bytes + self.expansion * file_bytes)
        return Budget(
            wall_s=self.wall_s + self.wall_s_per_gib * gib,
            cpu_s=self.cpu_s + int(self.cpu_s_per_gib * gib),
            memory_bytes=self.memory_bytes + int(self.memory_per_byte * file_bytes),
            output_bytes=output_bytes,
        )
