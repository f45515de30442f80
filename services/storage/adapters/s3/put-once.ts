import { type Bucket, BucketError, backoffMs, type Clockwork, isFault } from './bucket.ts';

/**
 * A sequence number is bound to its bytes for ever, so an unclear put is asked again with the same bytes, and a key that is taken is
 * read: ours after all, or another's. `lost`: other bytes stand there, and ours never will. Throws what the store said when it is
 * still unclear at the limit, or refuses: then nobody knows, and the number is given up with its lane.
 */
export async function putOnce(
  bucket: Bucket,
  key: string,
  body: Buffer,
  limitMs: number,
  clockwork: Clockwork,
): Promise<'written' | 'lost'> {
  const giveUpMs = clockwork.elapsedMs() + limitMs;
  for (let attempt = 0; ; attempt++) {
    let trouble: unknown;
    try {
      await bucket.put(key, body, { ifAbsent: true });
      return 'written';
    } catch (error) {
      trouble = error;
      if (isFault(error, 'exists')) {
        const stands = await standsThere(bucket, key, body);
        if (stands !== undefined) return stands ? 'written' : 'lost';
      } else if (!isFault(error, 'unclear')) throw error;
    }
    const waitMs = backoffMs(attempt, clockwork.random);
    if (clockwork.elapsedMs() + waitMs >= giveUpMs)
      throw isFault(trouble, 'unclear')
        ? trouble
        : new BucketError('unclear', `${key} is there and cannot be read`, { cause: trouble });
    await clockwork.pause(waitMs);
  }
}

/** Undefined: it cannot be read now. */
async function standsThere(bucket: Bucket, key: string, body: Buffer): Promise<boolean | undefined> {
  try {
    return (await bucket.get(key))?.bytes.equals(body);
  } catch (error) {
    if (error instanceof BucketError) return undefined;
    throw error;
  }
}
