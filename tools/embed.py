"""Writes a file's bytes as a C array: embed.py INPUT OUTPUT NAME VERSION gives `const unsigned char NAME[]` and `const size_t NAME_bytes`, with VERSION in the
place of @VERSION@."""
import sys

source, target, name, version = sys.argv[1:]
with open(source, 'rb') as stream:
    data = stream.read().replace(b'@VERSION@', version.encode())
with open(target, 'w', encoding='ascii') as out:
    out.write(f'#include <stddef.h>\nextern const unsigned char {name}[];\nextern const size_t {name}_bytes;\n')
    out.write(f'const size_t {name}_bytes = {len(data)};\nconst unsigned char {name}[] = {{\n')
    for at in range(0, len(data), 24):
        out.write(''.join(f'{byte},' for byte in data[at:at + 24]) + '\n')
    out.write('};\n')
