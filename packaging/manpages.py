"""Manual pages from packaging/man: hand-written text, and what the programs say in their help.

A line `@PROGRAM WORDS...` in a source stands for that program's help, as sections: so the pages
cannot name an option that is not there. `@cell` stands for the commands of ivshmem-cell,
`@functions` for the functions of cellmate.h.
"""
import json
import pathlib
import re
import subprocess
import textwrap

SOURCES = pathlib.Path(__file__).resolve().parent / "man"
ROOT = SOURCES.parent.parent
OPTION = re.compile(r"^ {1,4}(--?[A-Za-z][\w-]*(?:, --[\w-]+)?)( \S.*?)?(?: {2,}(\S.*))?$")
HEADING = re.compile(r"^(usage|options[^:]*|devices|examples?|keys[^:]*|exit status): ?(.*)$"
                     r"|^([a-z][^:]*):$")
FUNCTION = re.compile(r"^(?:/\*((?:(?!\*/).)*)\*/\n)?"
                      r"((?:[a-z_0-9]+ [ *]*)+\*?cellmate_[a-z_]+\([^;{]*\);)$", re.M | re.S)


class HelpError(Exception):
    """A program did not give its help; the text is one line."""


def ask(words):
    """What a program prints, or HelpError."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if done.returncode or not done.stdout:
        raise HelpError(f"{' '.join(str(w) for w in words)}: exit status {done.returncode}, "
                        f"{done.stderr.strip()[:200] or 'no output'}")
    return done.stdout


def escape(text):
    """Text as roff shows it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti")
    return "\\&" + text if text[:1] in (".", "\\") and text.startswith(".") else text


def literal(lines):
    """Lines as they are, blank ones at the ends left out."""
    lines = "\n".join(lines).strip("\n").split("\n")
    indent = min((len(t) - len(t.lstrip()) for t in lines if t.strip()), default=0)
    return [".PP", ".nf"] + [escape(t[indent:]) for t in lines] + [".fi"]


def option_entry(match, rest):
    name, value, text = match.groups()
    tag = f"\\fB{escape(name)}\\fR" + (f" \\fI{escape(value.strip())}\\fR" if value else "")
    entry = [".TP", tag]
    words = " ".join(t for t in [text or "", *rest] if t)
    return entry + [escape(words) if words else "\\&"]


def option_list(lines):
    """A block of lines, of which those with options become entries and the others stay."""
    out, other, index = [], [], 0
    while index < len(lines):
        match = OPTION.match(lines[index])
        if not match:
            other.append(lines[index])
            index += 1
            continue
        rest = []
        while index + 1 < len(lines) and lines[index + 1].startswith(" " * 12):
            index += 1
            rest.append(lines[index].strip())
        if any(t.strip() for t in other):
            out += literal(other)
        other = []
        out += option_entry(match, rest)
        index += 1
    if any(t.strip() for t in other):
        out += literal(other)
    return out


def blocks(text):
    """The help as (heading, lines): headings are at the left margin and end with a colon."""
    found = [["", []]]
    for line in text.rstrip("\n").split("\n"):
        match = HEADING.match(line)
        if match:
            heading = match[1] or match[3]
            # What follows on the same line is aligned with the lines below it.
            found.append([heading, [" " * (len(heading) + 2) + match[2]] if match[2] else []])
        else:
            found[-1][1].append(line)
    return found


def parts(lines):
    """The paragraphs of a block."""
    out = [[]]
    for line in lines:
        if line.strip():
            out[-1].append(line)
        elif out[-1]:
            out.append([])
    return [p for p in out if p]


def paragraph(lines):
    if any(OPTION.match(t) for t in lines):
        return option_list(lines)
    # Tables and indented lines keep their form.
    is_table = any(re.search(r"\S {3,}\S", t) for t in lines)
    if is_table or len(lines) > 1 and any(t.startswith(" ") for t in lines):
        return literal(lines)
    return [".PP", escape(" ".join(t.strip() for t in lines))]


def section(name, text, level=".SH"):
    """A program's help as sections; `level` .SS makes it one sub-section with headings in bold."""
    out = []
    for heading, lines in blocks(text):
        if not any(t.strip() for t in lines):
            continue
        if level == ".SH":
            names = {"usage": "SYNOPSIS", "": "HELP"}
            out.append(f".SH {names.get(heading, escape(heading.upper()))}")
        elif heading == "usage":
            # A help may have several commands, each with its usage.
            named = re.match(r"\s*([a-z-]+(?: [a-z]+)*)", lines[0])
            out.append(f".SS \"{escape(named[1] if named else name)}\"")
        elif heading:
            out += [".PP", f"\\fB{escape(heading)}\\fR"]
        if heading == "usage":
            usage = parts(lines)
            out += literal(usage[0])
            if len(usage) > 1 and level == ".SH":
                out.append(".SH DESCRIPTION")
            for extra in usage[1:]:
                out += paragraph(extra)
            continue
        for one in parts(lines):
            if level == ".SH" and heading[:7] != "options" and OPTION.match(one[0]):
                out.append(".SH OPTIONS")
            out += paragraph(one)
    return out


def verbs(text):
    """The commands that a help lists, in their order."""
    found = []
    for name in re.findall(r"^ {2,4}ivshmem ([a-z]+)", text, re.M):
        if name not in found:
            found.append(name)
    return found


def with_commands(program, words, text):
    """The sections of a program, and of each command that has help of its own."""
    out = section(program, text)
    first = True
    for verb in verbs(text):
        try:
            page = ask([*words, "help", verb])
        except HelpError:
            continue
        if page.startswith(f"usage: ivshmem {verb}") and page != text:
            if first:
                out.append(".SH COMMANDS IN DETAIL")
                first = False
            out += section(f"{program} {verb}", page, ".SS")
    return out


def cell_commands(words):
    """What ArgumentParser knows of ivshmem-cell."""
    tree = json.loads(ask([*words, "--experimental-dump-help"]))["command"]
    out = [".SH COMMANDS"]
    for command in tree.get("subcommands", []):
        if command["commandName"] == "help":
            continue
        line = f"ivshmem-cell {command['commandName']}"
        for argument in command.get("arguments", []):
            if argument["kind"] == "positional":
                name = argument.get("valueName", "file").upper()
                line += f" {name}{' ...' if argument.get('isRepeating') else ''}"
        out += [f".SS \"{escape(line)}\"", escape(command.get("abstract", ""))]
        for text in (command.get("discussion") or "").split("\n\n"):
            if text.strip():
                out += paragraph(text.split("\n"))
        for argument in command.get("arguments", []):
            if not argument.get("shouldDisplay", True):
                continue
            names = [("--" if n["kind"] == "long" else "-") + n["name"]
                     for n in argument.get("names", [])]
            shown = ", ".join(f"\\fB{escape(n)}\\fR" for n in names)
            if argument["kind"] == "positional":
                shown = f"\\fI{escape(argument.get('valueName', 'file').upper())}\\fR"
            elif argument["kind"] == "option":
                shown += f" \\fI{escape(argument.get('valueName', 'value').upper())}\\fR"
            text = argument.get("abstract") or ""
            if argument.get("defaultValue") and argument["kind"] == "option":
                text += f" (default {argument['defaultValue']})"
            out += [".TP", shown] + [escape(" ".join(text.split())) or "\\&"]
    return out


def functions():
    """The functions of the header with the first words of their comments."""
    text = (ROOT / "Sources/CCellmate/include/cellmate.h").read_text()
    out = []
    for match in FUNCTION.finditer(text):
        comment, prototype = match.groups()
        prototype = " ".join(prototype.split())
        out += [".TP", f"\\fB{escape(prototype)}\\fR"]
        lines = (comment or "").split("\n")
        words = " ".join(re.sub(r"^ ?\*", "", t).strip() for t in lines).strip()
        out.append(escape(words) if words else "\\&")
    if not out:
        raise HelpError("cellmate.h: no function was found")
    return out


def tidy(lines):
    """As mandoc wants it: no paragraph directly behind a heading, text lines of 78 columns."""
    out, is_literal = [], False
    for line in lines:
        if line == ".PP" and out and out[-1].startswith((".SH", ".SS")):
            continue
        is_literal = (is_literal or line == ".nf") and line != ".fi"
        is_tag = len(out) > 0 and out[-1] == ".TP"
        if is_literal or is_tag or line.startswith(".") or len(line) <= 78:
            out.append(line)
            continue
        for piece in textwrap.wrap(line, 78, break_long_words=False, break_on_hyphens=False):
            out.append("\\&" + piece if piece.startswith(".") else piece)
    return out


def page(source, programs, version, date):
    """One manual page. `programs` are name: words to start it."""
    name, number = source.stem, source.suffix[1:]
    out = [f".\\\" Made from packaging/man/{source.name} and the programs' help.",
           f".TH {name.upper().replace('-', chr(92) + '-')} {number} {date} \"Cellmate {version}\""]
    for line in source.read_text().rstrip("\n").split("\n"):
        if line == "@cell":
            out += cell_commands(programs["ivshmem-cell"])
        elif line == "@functions":
            out += functions()
        elif line.startswith("@"):
            program, *words = line[1:].split()
            text = ask([*programs[program], *words])
            out += with_commands(program, programs[program], text) if words == ["help"] else \
                section(program, text)
        else:
            out.append(line)
    return "\n".join(tidy(out)) + "\n"


def needed(source):
    """The programs that a source asks."""
    found = {t[1:].split()[0] for t in source.read_text().split("\n") if t.startswith("@")}
    return {{"cell": "ivshmem-cell"}.get(n, n) for n in found} - {"functions"}


def option_names(text):
    """Long options that a text names, whatever its form."""
    return set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*[a-z0-9])", text))
