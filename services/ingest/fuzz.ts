/** Entry points for fuzzers: any bytes may come in; only errors of the list may come out, and chunks mean nothing. */
import assert from 'node:assert/strict';
import { GantryError } from '#platform/errors.ts';
import { parseMediaType } from '#platform/media-type.ts';
import { MultipartReader } from './multipart.ts';
import { nativeModelToJson } from './native-model.ts';

/** The first byte says how the rest is cut; the boundary is `b`. */
export async function fuzzMultipart(bytes: Buffer): Promise<void> {
  const size = (bytes[0] ?? 0) + 1;
  const body = bytes.subarray(1);
  assert.deepEqual(await partsOf(body, size), await partsOf(body, body.length || 1));
}

async function partsOf(body: Buffer, size: number): Promise<string[]> {
  async function* chunks() {
    for (let at = 0; at < body.length; at += size) yield body.subarray(at, at + size);
  }
  const seen: string[] = [];
  let length = 0;
  try {
    const reader = new MultipartReader(chunks(), 'b', { partsMax: 20, headerBytesMax: 200 });
    for (let part = await reader.next(); part; part = await reader.next()) {
      const pieces: Buffer[] = [];
      for await (const chunk of part.body) pieces.push(chunk);
      const content = Buffer.concat(pieces);
      length += content.length;
      seen.push(`${JSON.stringify([...part.headers])} ${content.toString('latin1')}`);
    }
  } catch (error) {
    if (!(error instanceof GantryError)) throw error;
    seen.push(error.message);
  }
  assert.ok(length <= body.length);
  return seen;
}

export function fuzzMediaType(bytes: Buffer): void {
  parseMediaType(bytes.toString('latin1'));
}

export function fuzzNativeModel(bytes: Buffer): void {
  try {
    JSON.stringify(nativeModelToJson(bytes.toString('utf8')));
  } catch (error) {
    if (!(error instanceof GantryError)) throw error;
  }
}
