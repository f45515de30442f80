import { hash } from 'node:crypto';

/** 48 bits: among 476 million instances one look-up in half a million meets a stranger, and the block tells it apart. */
export const sopHash = (tenant: string, sopInstanceUid: string): number =>
  hash('sha1', `${tenant}\u0000${sopInstanceUid}`, 'buffer').readUIntBE(0, 6);
