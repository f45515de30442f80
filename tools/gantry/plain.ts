/** Bytes as hex, as the API gives them. */
export const plain = <T>(value: T): T =>
  JSON.parse(
    JSON.stringify(value, (_key, one) =>
      one !== null && typeof one === 'object' && one.type === 'Buffer' && Array.isArray(one.data)
        ? Buffer.from(one.data).toString('hex')
        : one,
    ),
  ) as T;
