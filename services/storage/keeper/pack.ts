import { Part10Digest } from '#dicom/digest.ts';
import { GantryError } from '#platform/errors.ts';
import type { Instance, Place } from '#proto/storage/v1/log.ts';
import { instanceFileName } from '../log/names.ts';
import { BLOCK, paddedLength, paddingOf, TRAILER, writeTarHeader } from '../log/tar.ts';
import type { ObjectStore } from '../ports.ts';

/** What goes into a pack: an instance and where its bytes are now. */
export interface Packable {
  instance: Pick<
    Instance,
    | 'studyInstanceUid'
    | 'seriesInstanceUid'
    | 'sopInstanceUid'
    | 'version'
    | 'digest'
    | 'transferSyntaxUid'
    | 'dataSetOffset'
  >;
  place: Place;
}

/** Where each instance will lie in a pack of these, in order. */
export function planPack(object: string, members: readonly Packable[]): Place[] {
  let at = 0;
  return members.map(({ place }) => {
    const here: Place = { object, offset: at + BLOCK, length: place.length, encoding: place.encoding };
    at += BLOCK + paddedLength(place.length);
    return here;
  });
}

/**
 * A pack's bytes: a plain tar of one study's Part 10 files, read and checked on their way. A file whose digest does not hold stops the
 * pack before it is named: damage is never copied as if it were whole.
 */
export async function* packBytes(
  objects: ObjectStore,
  members: readonly Packable[],
  modifiedSeconds: number,
): AsyncGenerator<Buffer> {
  for (const member of members) {
    const header = Buffer.alloc(BLOCK);
    const { instance, place } = member;
    writeTarHeader(header, 0, instanceFileName(instance as Instance), place.length, modifiedSeconds);
    yield header;
    yield* checkedBytes(objects, member);
    yield paddingOf(place.length);
  }
  yield TRAILER;
}

/** Ends with DamagedMember when they are not what the entry says, or not there. */
async function* checkedBytes(objects: ObjectStore, { instance, place }: Packable): AsyncGenerator<Buffer> {
  const digest = new Part10Digest(instance.transferSyntaxUid, instance.dataSetOffset);
  try {
    for await (const chunk of objects.read(place.object, place.offset, place.length)) {
      digest.update(chunk);
      yield chunk;
    }
  } catch (error) {
    if (isUnreadable(error)) throw new DamagedMember(instance.sopInstanceUid, place, { cause: error });
    throw error;
  }
  if (!digest.finish().digest.equals(instance.digest)) throw new DamagedMember(instance.sopInstanceUid, place);
}

export async function isSound(objects: ObjectStore, member: Packable): Promise<boolean> {
  try {
    for await (const _ of checkedBytes(objects, member));
    return true;
  } catch (error) {
    if (error instanceof DamagedMember) return false;
    throw error;
  }
}

/** Gone, too short, or on a sector that the medium does not give back. */
export function isUnreadable(error: unknown): boolean {
  if (error instanceof GantryError) return error.code === 'not-found' || error.code === 'damaged';
  return error instanceof Error && 'code' in error && error.code === 'EIO';
}

/** The bytes of one member are not what its entry says. */
export class DamagedMember extends GantryError {
  readonly place: Place;
  constructor(sopInstanceUid: string, place: Place, options?: { cause: unknown }) {
    super(
      'damaged',
      `the bytes of instance ${sopInstanceUid} at ${place.object}+${place.offset} are not what its entry says`,
      options,
    );
    this.place = place;
  }
}
