# SPDX-License-Identifier: Apache-2.0
#
# For each C function that takes a name (const char *), a Swift function that takes the String of
# Library/strings.swift and has the same name: Swift lends its own String to C, a type of ours it
# does not.
#
# usage: awk -f Library/names.awk Sources/C*/include/*.h >FILE.swift
BEGIN {
  split("int Int32|unsigned UInt32|long Int|size_t Int|ssize_t Int|mode_t UInt32|void Void|char CChar" \
    "|int8_t Int8|int16_t Int16|int32_t Int32|int64_t Int64|bool Bool" \
    "|uint8_t UInt8|uint16_t UInt16|uint32_t UInt32|uint64_t UInt64", pairs, "|")
  for (number in pairs) {
    split(pairs[number], pair, " ")
    swift[pair[1]] = pair[2]
  }
}
FNR == 1 { text = "" }
/^#/ { next }
{
  sub(/\/\/.*/, "")
  gsub(/\/\*[^*]*\*\//, "")
  # A comment of several lines.
  if (/\/\*/) { isComment = 1; sub(/\/\*.*/, "") }
  if (isComment) {
    if (!/\*\//) next
    isComment = 0
    sub(/.*\*\//, "")
  }
  if (text != "" || /^[a-z]/) text = text " " $0
}
/^typedef struct [a-z_]+ [a-z_]+;/ { isOpaque[$4] = 1 }
# A declaration may have several lines and ends with a semicolon; what has braces is none.
/;[[:space:]]*$/ {
  if (text ~ /^ [a-z][a-z_0-9 *N]*[ *]c[a-z]+_[a-z_0-9]+\(.*const char \*(_Nonnull )?[a-z]/ &&
    text !~ /[{]|\(\*|^ typedef/) declare(text)
  text = ""
}
function type(words, isConstant, stars, name) {
  gsub(/_Nonnull|_Nullable/, " ", words)
  isConstant = words ~ /const /
  stars = gsub(/\*/, "", words)
  sub(/const /, "", words)
  sub(/struct /, "", words)
  gsub(/[[:space:]]/, "", words)
  name = words in swift ? swift[words] : words
  sub(/;/, "", name)
  if (stars == 0) return name
  if (words == "void") { name = "Unsafe" (isConstant ? "" : "Mutable") "RawPointer?"; stars-- }
  else if ((words ";") in isOpaque) { name = "OpaquePointer?"; stars-- }
  while (stars-- > 0) {
    name = "Unsafe" (isConstant ? "" : "Mutable") "Pointer<" name ">?"
  }
  return name
}
function declare(text, open, head, name, result, count, list, at, part, words, taken, given) {
  open = index(text, "(")
  head = substr(text, 1, open - 1)
  match(head, /c[a-z]+_[a-z_0-9]+$/)
  name = substr(head, RSTART)
  result = type(substr(head, 1, RSTART - 1))
  text = substr(text, open + 1)
  sub(/\);.*/, "", text)
  count = split(text, list, ",")
  for (at = 1; at <= count; at++) {
    part = list[at]
    match(part, /[a-z_0-9]+[[:space:]]*$/)
    words = substr(part, 1, RSTART - 1)
    isName = words ~ /const char \*(_Nonnull)? *$/
    taken = taken (at > 1 ? ", " : "") "_ a" at ": " (isName ? "String" : type(words))
    given = given (at > 1 ? ", " : "") "a" at \
      (isName ? ".forC" : words ~ /_Nonnull/ && words ~ /[*] *_Nonnull *$/ ? "!" : "")
  }
  if (FILENAME != last) {
    split(FILENAME, folders, "/")
    print "import " folders[2]
    last = FILENAME
  }
  print "@inline(never) func " name "(" taken ") -> " result " {\n  " name "(" given ")\n}"
}
