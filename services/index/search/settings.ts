/** What one question may cost. Rows of the module's settings table (module.ts of index): key → limit. */
export interface SearchLimits {
  /** Rows of one answer; beyond it the last row says `more`. PS3.18 §8.3.4.4 lets us cut; 10,000 is what worklists page by. */
  rowsMax: number;
  /** Study documents read to answer one question: about four seconds of one reader, then `too-broad` (413, A700). */
  studiesScannedMax: number;
  /** Headers of instances read to answer one question: the same. */
  headersScannedMax: number;
  /** A key that leaves at most so many studies is looked up; with more, the list is read in its own order until the page is full. */
  lookupMax: number;
}

export const SEARCH_LIMITS: SearchLimits = {
  rowsMax: 10_000,
  studiesScannedMax: 250_000,
  headersScannedMax: 100_000,
  lookupMax: 4_000,
};

export const SEARCH_SETTINGS = {
  'index.searchRowsMax': {
    type: 'integer',
    default: SEARCH_LIMITS.rowsMax,
    min: 1,
    max: 100_000,
    limit: true,
    doc: 'Rows of one answer; the rest is had by offset or cursor. An explicit limit up to 10,000 is honoured, so that worklists which page by themselves are not cut short.',
  },
  'index.searchStudiesScannedMax': {
    type: 'integer',
    default: SEARCH_LIMITS.studiesScannedMax,
    min: 1_000,
    limit: true,
    doc: 'Study documents read for one question that no index narrows, before it is refused as too broad (413, A700): about four seconds of one reader.',
  },
  'index.searchHeadersScannedMax': {
    type: 'integer',
    default: SEARCH_LIMITS.headersScannedMax,
    min: 1_000,
    limit: true,
    doc: 'Instance headers read for one question about attributes that only headers hold, before it is refused as too broad (413, A700).',
  },
} as const;
