import { createHash, type Hash } from 'node:crypto';

/**
 * The two digests of an instance, from one pass over its bytes:
 *
 *   version = SHA-256(transfer syntax UID ‖ NUL ‖ data set as received)   the identity of bytes, whatever file they came in
 *   digest  = SHA-256(prefix ‖ version)                                   the whole Part 10 file as kept
 *
 * where `prefix` is everything before the data set (preamble, DICM, group 0002). The file is prefix ‖ data set, so a change of any
 * of its bytes changes `digest`, as a plain hash of the file would show it; but the data set is hashed once instead of twice, and
 * hashing is most of what an instance costs us (0.5 MB: ~0.3 ms a pass). The NUL keeps (UID, bytes) unambiguous: no UID holds one.
 */
export function versionHash(transferSyntaxUid: string): Hash {
  return createHash('sha256').update(transferSyntaxUid, 'latin1').update(NUL);
}
const NUL = Buffer.alloc(1);

export function digestOf(prefix: Uint8Array | readonly Uint8Array[], version: Uint8Array): Buffer {
  const hash = createHash('sha256');
  for (const piece of prefix instanceof Uint8Array ? [prefix] : prefix) hash.update(piece);
  return hash.update(version).digest();
}

/** Both digests of a Part 10 file that is read from its start, chunk by chunk: what scrub and verify compare with the entry. */
export class Part10Digest {
  #prefix: Buffer[] = [];
  #left: number;
  #version: Hash;

  constructor(transferSyntaxUid: string, dataSetOffset: number) {
    this.#left = dataSetOffset;
    this.#version = versionHash(transferSyntaxUid);
  }

  update(chunk: Buffer): this {
    if (this.#left > 0) {
      const head = chunk.subarray(0, this.#left);
      this.#prefix.push(head);
      this.#left -= head.length;
      chunk = chunk.subarray(head.length);
    }
    if (chunk.length > 0) this.#version.update(chunk);
    return this;
  }

  /** A file that ended before its data set began is no file of ours: its version is that of an empty data set. */
  finish(): { version: Buffer; digest: Buffer } {
    const version = this.#version.digest();
    return { version, digest: digestOf(this.#prefix, version) };
  }
}
