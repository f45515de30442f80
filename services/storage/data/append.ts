import { ulid } from 'ulid';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import type { Entry } from '#proto/storage/v1/log.ts';
import type {
  AppendInstanceRequest,
  AppendInstanceResponse,
  AppendLargeRequest,
  AppendResponse,
  PutLargeResponse,
} from '#proto/storage/v1/storage.ts';
import { checkInstance } from '../log/commit.ts';
import { checkObjectKey, checkTenant } from '../log/names.ts';
import type { Appended, Archive, EntryKind, NewEntry } from '../ports.ts';

export interface AppendLimits {
  readonly smallLimit: () => number;
  readonly queueBytes: () => number;
  readonly queueEntries: () => number;
}

/** How often a large body asks whether there is still room above the reserve. */
const ROOM_EVERY = 16 * 1024 * 1024;

export class Appender {
  readonly #archive: Archive;
  readonly #limits: AppendLimits;
  /** Bodies being received that are not in the queue of commits yet. */
  #receivingBytes = 0;

  constructor(archive: Archive, limits: AppendLimits) {
    this.#archive = archive;
    this.#limits = limits;
  }

  async instance(call: Call, request: AppendInstanceRequest, body: Bytes): Promise<AppendInstanceResponse> {
    const instance = checkInstance(request.instance);
    const length = instance.place?.length ?? 0;
    if (length <= 0 || !Number.isSafeInteger(length))
      throw new GantryError('invalid-argument', 'instance.place.length says how many bytes follow');
    if (length > this.#limits.smallLimit())
      throw new GantryError('too-large', `an instance of ${length} bytes goes through putLarge`);
    if (this.#receivingBytes > 0 && this.#receivingBytes + length > this.#limits.queueBytes())
      throw new GantryError('no-permit', 'too many instances are on their way');
    this.#receivingBytes += length;
    try {
      await this.#needRoom(length);
      const pieces = await collect(body, length);
      return single(
        await this.#archive.log.append(call.tenant, call.requestId, [
          { kind: { $case: 'instance', value: instance }, body: pieces },
        ]),
      );
    } finally {
      this.#receivingBytes -= length;
    }
  }

  async putLarge(call: Call, expectedBytes: number, body: Bytes): Promise<PutLargeResponse> {
    await this.#needRoom(Math.max(0, expectedBytes));
    const id = ulid();
    // A directory for each 12 days (the first four characters of a ULID), so that none grows without end.
    const object = `large/${checkTenant(call.tenant)}/${id.slice(0, 4)}/${id}.dcm`;
    const { bytes } = await this.#archive.objects.put(object, this.#watched(call, body));
    // Not hashed a second time: ingest hashes what it sends (services/adr/0024).
    return { object, length: bytes, digest: Buffer.alloc(0) };
  }

  async appendLarge(call: Call, request: AppendLargeRequest): Promise<AppendInstanceResponse> {
    const instance = checkInstance(request.instance);
    const place = instance.place;
    if (!place?.object.startsWith('large/') || place.offset !== 0 || place.encoding !== 0)
      throw new GantryError('invalid-argument', 'instance.place is the object that putLarge answered');
    const stat = await this.#archive.objects.stat(checkObjectKey(place.object, call.tenant));
    if (!stat) throw new GantryError('not-found', `no object ${place.object}`);
    if (stat.bytes !== place.length)
      throw new GantryError('damaged', `${place.object} has ${stat.bytes} bytes, not ${place.length}`);
    return single(
      await this.#archive.log.append(call.tenant, call.requestId, [{ kind: { $case: 'large', value: instance } }]),
    );
  }

  /** Goes on below the reserve: what frees space, and what people decide, must always get in. */
  async control(call: Call, entries: readonly Entry[]): Promise<AppendResponse> {
    if (entries.length > this.#limits.queueEntries())
      throw new GantryError('too-large', 'too many entries in one request');
    const appended = await this.#archive.log.append(call.tenant, call.requestId, entries.map(controlEntry));
    return { positions: [appended.position], ids: appended.ids };
  }

  async #needRoom(bytes: number): Promise<void> {
    const { freeBytes, reserveBytes, accepting } = await this.#archive.room();
    if (!accepting || freeBytes - bytes < reserveBytes)
      throw new GantryError(
        'no-space',
        `the disk has ${freeBytes} bytes free; new instances are refused below storage.reserveBytes (${reserveBytes})`,
      );
  }

  async *#watched(call: Call, body: Bytes): Bytes {
    let unchecked = 0;
    for await (const piece of body) {
      call.signal.throwIfAborted();
      unchecked += piece.length;
      if (unchecked >= ROOM_EVERY) {
        await this.#needRoom(unchecked);
        unchecked = 0;
      }
      yield piece;
    }
  }
}

function controlEntry({ kind }: Entry): NewEntry {
  const refused: readonly (EntryKind['$case'] | undefined)[] = [undefined, 'instance', 'large', 'closed'];
  if (!kind || refused.includes(kind.$case))
    throw new GantryError('invalid-argument', 'only control entries are appended this way');
  return { kind };
}

async function collect(body: Bytes, length: number): Promise<Buffer[]> {
  const pieces: Buffer[] = [];
  let received = 0;
  for await (const piece of body) {
    received += piece.length;
    if (received > length) break;
    pieces.push(piece);
  }
  if (received !== length)
    throw new GantryError(
      'invalid-argument',
      `the body has ${received > length ? 'more' : 'fewer'} bytes than instance.place.length`,
    );
  return pieces;
}

function single({ ids, position, places }: Appended): AppendInstanceResponse {
  return { id: ids[0], position, place: places[0] };
}
