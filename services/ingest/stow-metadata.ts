import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import type { StowRequest } from '#proto/ingest/v1/ingest.ts';
import type { Accept } from './accept.ts';
import type { Part } from './multipart.ts';
import type { InFlight } from './stow.ts';
import type { StowAnswer } from './stow-answer.ts';
export class StowMetadata {
  constructor(..._: [Accept, Call, StowRequest, StowAnswer, InFlight, number, unknown]) {}
  async read(_: Bytes) {
    throw new GantryError('unsupported-media-type', 'not yet');
  }
  async bulk(_: Part) {}
  async finish() {}
  release() {}
}
