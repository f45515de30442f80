import type { EntryKind } from '../ports.ts';

type Kind = EntryKind['$case'];

/**
 * The kinds of entries that this release writes. A release that meets a kind it does not know stops that lane there (toc.ts), so
 * while N rolls to N+1, and back, nobody may write what N cannot read. Therefore a new kind comes in two releases: one reads it and
 * has `false` here; the next one writes it. tools/check refuses `true` for a kind that the last tagged release does not have.
 */
export const WRITTEN = {
  instance: true,
  large: true,
  overlay: true,
  delete: true,
  restore: true,
  identity: true,
  hold: true,
  decision: true,
  moved: true,
  closed: true,
} as const satisfies Record<Kind, boolean>;

type WrittenKind = { [K in Kind]: (typeof WRITTEN)[K] extends true ? K : never }[Kind];

/** What may be appended: code that writes another kind does not compile. */
export type WrittenEntry = Extract<EntryKind, { $case: WrittenKind }>;
