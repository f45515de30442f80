import { crc32 } from 'node:zlib';
import type { TableOfContents } from '#proto/storage/v1/log.ts';
import { controlJson } from './commit.ts';
import { controlFileName, tocFileName } from './names.ts';
import { BLOCK, paddingOf, writeTarHeader } from './tar.ts';
import { encodeTocFrame } from './toc.ts';

/** A commit without its instances' bytes, as it stands in a thinned segment: its control entries and its table, as before. */
export function thinCommit(
  decoded: TableOfContents,
  table: Buffer,
  offset: number,
  previousToc: number,
): { buffers: Buffer[]; bytes: number; tocOffset: number } {
  const { lane, sequence, entries } = decoded;
  const buffers: Buffer[] = [];
  let bytes = 0;
  let seconds = 0;
  const add = (name: string, content: Buffer): void => {
    const header = Buffer.allocUnsafe(BLOCK);
    writeTarHeader(header, 0, name, content.length, seconds);
    const padding = paddingOf(content.length);
    buffers.push(header, content, padding);
    bytes += BLOCK + content.length + padding.length;
  };
  for (const entry of entries) {
    seconds = Math.floor(Number.parseInt(entry.stamp.slice(0, 12), 16) / 1000);
    if (entry.kind!.$case !== 'instance')
      add(controlFileName(sequence, entry.n, entry.kind!.$case), controlJson({ lane, sequence }, entry));
  }
  let crc = 0;
  for (const buffer of buffers) crc = crc32(buffer, crc);
  const tocOffset = offset + bytes;
  add(tocFileName(sequence), encodeTocFrame({ sequence, commitOffset: offset, previousToc, crc, table }));
  return { buffers, bytes, tocOffset };
}
