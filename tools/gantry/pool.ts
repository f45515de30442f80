// Several at once, from a source that is pulled: as many in flight as there are workers, never more.
export async function pool<T>(
  source: AsyncIterable<T> | Iterable<T>,
  workers: number,
  work: (one: T) => Promise<void>,
): Promise<void> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let failure: { error: unknown } | undefined;
  const one = async () => {
    while (failure === undefined) {
      const next = await iterator.next();
      if (next.done === true) return;
      await work(next.value);
    }
  };
  await Promise.all(
    Array.from({ length: workers }, () =>
      one().catch((error: unknown) => {
        failure ??= { error }; // the others finish what they have in hand
      }),
    ),
  );
  if (failure !== undefined) {
    await iterator.return?.();
    throw failure.error;
  }
}
