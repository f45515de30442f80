import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { BULK } from '#platform/routes.ts';
import type { BulkClient, BulkRoute, Bytes } from '#platform/rpc.types.ts';
import type { Instance, Position } from '#proto/storage/v1/log.ts';

type ClientOf<R> = R extends BulkRoute<infer Request, infer Response> ? BulkClient<Request, Response> : never;

/** What ingest needs of storage: success of `appendInstance` and `appendLarge` means durable. */
export interface Archive {
  appendInstance: ClientOf<typeof BULK.appendInstance>;
  putLarge: ClientOf<typeof BULK.putLarge>;
  appendLarge: ClientOf<typeof BULK.appendLarge>;
}

/** The file's buffers go on as they were received: nothing is copied together. */
export async function keepSmall(
  archive: Archive,
  call: Call,
  instance: Instance,
  file: readonly Buffer[],
): Promise<Position> {
  const { response } = await archive.appendInstance(call, { instance }, file);
  return positionOf(response.position);
}

/** `stream` ends only after `describe` can tell what was read, and fails where that is refused: then nothing was kept. */
export async function putLarge(
  archive: Archive,
  call: Call,
  stream: Bytes,
  describe: () => Instance,
): Promise<Instance> {
  const { response } = await archive.putLarge(call, { expectedBytes: 0 }, stream);
  const instance = describe();
  const length = instance.place?.length ?? 0;
  if (response.length !== length)
    throw new GantryError('damaged', `storage wrote ${response.length} of ${length} bytes of a large instance`);
  return { ...instance, place: { object: response.object, offset: 0, length, encoding: 0 } };
}

export async function commitLarge(archive: Archive, call: Call, instance: Instance): Promise<Position> {
  const { response } = await archive.appendLarge(call, { instance });
  return positionOf(response.position);
}

function positionOf(position: Position | undefined): Position {
  if (!position) throw new GantryError('internal', 'storage answered without a position');
  return position;
}
