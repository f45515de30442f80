import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Variant } from '../fold/levels.ts';
import type { JsonAttributes } from '../fold/types.ts';

/** A distinct set of attributes of a series' live instances; `variant`: the header's own, to which nothing was added. */
export type EffectiveVariant = Variant & { variant?: number };

/**
 * Variants mostly differ from the first in an attribute or two (a scanner that writes each image's own SeriesTime makes hundreds), so only
 * that is written.
 */
interface Difference {
  set: JsonAttributes;
  unset: string[];
}
interface StoredVariants {
  base: JsonAttributes;
  raw: Difference[];
  effective: { order: string; variant?: number | undefined; differs?: Difference }[];
}

function differenceOf(base: JsonAttributes, attributes: JsonAttributes): Difference {
  const set: JsonAttributes = {};
  for (const [key, element] of Object.entries(attributes))
    if (base[key] !== element && JSON.stringify(base[key]) !== JSON.stringify(element)) set[key] = element;
  return { set, unset: Object.keys(base).filter((key) => !(key in attributes)) };
}

/** In tag order, as `describe` gives them: equal sets of attributes are equal texts. */
function withDifference(base: JsonAttributes, { set, unset }: Difference): JsonAttributes {
  const all = { ...base, ...set };
  for (const key of unset) delete all[key];
  const attributes: JsonAttributes = {};
  for (const key of Object.keys(all).sort()) attributes[key] = all[key]!;
  return attributes;
}

export function encodeVariants(raw: readonly JsonAttributes[], effective: readonly EffectiveVariant[]): Buffer {
  const base = raw[0] ?? {};
  const stored: StoredVariants = {
    base,
    raw: raw.map((one) => differenceOf(base, one)),
    effective: effective.map(({ order, variant, attributes }) =>
      variant !== undefined && attributes === raw[variant]
        ? { order, variant }
        : { order, variant, differs: differenceOf(base, attributes) },
    ),
  };
  return zstdCompressSync(JSON.stringify(stored));
}

export function decodeVariants(data: Uint8Array): { raw: JsonAttributes[]; effective: EffectiveVariant[] } {
  if (data.length === 0) return { raw: [], effective: [] };
  const stored = JSON.parse(zstdDecompressSync(data).toString('utf8')) as StoredVariants;
  const raw = stored.raw.map((one) => withDifference(stored.base, one));
  const effective = stored.effective.map(({ order, variant, differs }) => {
    const one: EffectiveVariant = {
      order,
      attributes: differs ? withDifference(stored.base, differs) : raw[variant!]!,
    };
    if (variant !== undefined) one.variant = variant;
    return one;
  });
  return { raw, effective };
}
