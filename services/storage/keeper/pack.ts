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
  for (const { instance, place } of members) {
    const header = Buffer.alloc(BLOCK);
    writeTarHeader(header, 0, instanceFileName(instance as Instance), place.length, modifiedSeconds);
    yield header;
    const digest = new Part10Digest(instance.transferSyntaxUid, instance.dataSetOffset);
    for await (const chunk of objects.read(place.object, place.offset, place.length)) {
      digest.update(chunk);
      yield chunk;
    }
    if (!digest.finish().digest.equals(instance.digest)) throw new DamagedMember(instance.sopInstanceUid, place);
    yield paddingOf(place.length);
  }
  yield TRAILER;
}

/** The bytes of one member are not what its entry says. */
export class DamagedMember extends GantryError {
  readonly place: Place;
  constructor(sopInstanceUid: string, place: Place) {
    super(
      'damaged',
      `the bytes of instance ${sopInstanceUid} at ${place.object}+${place.offset} do not match their digest`,
    );
    this.place = place;
  }
}
