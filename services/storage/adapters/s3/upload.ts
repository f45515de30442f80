import { GantryError } from '#platform/errors.ts';
import { type Bucket, BucketError, isFault, type Upload } from './bucket.ts';
import { PART_BYTES } from './limits.ts';

/**
 * A body of unknown length under a new key: one put when it is short, else parts. Of a body that fails nothing is left. An unclear
 * answer to the last request is looked up: the object is there, with its length, or it is not.
 */
export async function putStream(bucket: Bucket, key: string, body: AsyncIterable<Buffer>): Promise<{ bytes: number }> {
  let upload: Upload | undefined;
  let number = 0;
  let bytes = 0;
  let gathered: Buffer[] = [];
  let size = 0;
  const take = (length: number): Buffer => {
    const all = Buffer.concat(gathered, size);
    gathered = size > length ? [all.subarray(length)] : [];
    size = Math.max(0, size - length);
    return all.subarray(0, length);
  };
  try {
    for await (const piece of body) {
      gathered.push(piece);
      size += piece.length;
      bytes += piece.length;
      while (size > PART_BYTES) {
        upload ??= await bucket.beginUpload(key);
        await upload.part(++number, take(PART_BYTES));
      }
    }
    const rest = take(size);
    if (!upload) await settled(bucket, key, bytes, bucket.put(key, rest, { ifAbsent: true }));
    else {
      await upload.part(++number, rest);
      await settled(bucket, key, bytes, upload.complete());
    }
    return { bytes };
  } catch (error) {
    if (isFault(error, 'exists'))
      throw new GantryError('already-exists', 'the object is there already', { cause: error });
    throw error;
  } finally {
    // Completed, this is an upload that is not there; else what cannot be aborted now the keeper finds by its age.
    if (upload && number > 0) await upload.abort().catch(() => {});
  }
}

async function settled(bucket: Bucket, key: string, bytes: number, put: Promise<void>): Promise<void> {
  try {
    await put;
  } catch (error) {
    if (!isFault(error, 'unclear')) throw error;
    // Keys are new ULIDs: what stands there with this length is ours.
    const row = await bucket.head(key);
    if (row?.bytes !== bytes) throw new BucketError('unclear', `${key} may be written later, or not`, { cause: error });
  }
}
