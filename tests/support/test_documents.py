"""What a page is read as."""

from __future__ import annotations

import pytest

from tests.support.documents import Block, find_missing, read_anchors, read_blocks, read_links, read_table

PAGE = """\
# First: the `farm`

See [the next](b.md#two-words) and [it](https://example.com/).

```sh n1 n2 background
echo "[no](link)"
# Not a heading
```

- In a list:

  ```toml n1,n2:/etc/x.toml
  [a]
    b = 1
  ```

## Two words

````text output
```
````

| machine | addresses |
|---|---|
| `n1` | 10.0.0.1, 10.0.0.2 |
| n2 | |
"""


def test_blocks_are_read_with_what_their_fences_say() -> None:
    first, second, third = read_blocks(PAGE)
    assert first == Block(5, "sh", ("n1", "n2", "background"), 'echo "[no](link)"\n# Not a heading\n')
    assert (first.machines, first.place, first.is_run, first.is_output) == (("n1", "n2"), None, True, False)
    assert second == Block(12, "toml", ("n1,n2:/etc/x.toml",), "[a]\n  b = 1\n")
    assert (second.machines, second.place, second.is_run) == (("n1", "n2"), (("n1", "n2"), "/etc/x.toml"), False)
    assert third == Block(19, "text", ("output",), "```\n")
    assert third.is_output


def test_a_block_without_an_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2: the block does not end"):
        list(read_blocks("x\n```sh\necho\n"))


def test_links_anchors_and_tables_are_those_outside_of_blocks() -> None:
    assert read_links(PAGE) == ["b.md#two-words", "https://example.com/"]
    assert read_anchors(PAGE) == {"first-the-farm", "two-words"}
    assert read_table(PAGE, "machine") == [["n1", "10.0.0.1, 10.0.0.2"], ["n2", ""]]
    with pytest.raises(ValueError, match="no table begins with a column 'host'"):
        read_table(PAGE, "host")


def test_an_example_is_written_when_its_lines_are_there_in_that_order() -> None:
    written = "one  1 *\ntwo 2\nthree 3\n"
    assert find_missing("one 1 …\n…\n\nthree …", written) is None
    assert find_missing("three …\none …", written) == "one …"
    assert find_missing("two", written) == "two"
    assert find_missing("… 2", written) is None
