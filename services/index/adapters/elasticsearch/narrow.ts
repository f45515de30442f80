import type { estypes } from '@elastic/elasticsearch';
import { hexOf, Tag } from '#dicom/tags.ts';
import { trimUid } from '#dicom/uids.ts';
import { type Reading, waitFor } from '../../questions/reading.ts';
import { type Lookup, lookupOf, type NarrowOptions, type TellingKey, tellingKeys } from '../../search/lookups.ts';
import { foldAccents, hasWildcard, soundOf, words } from '../../search/match-text.ts';
import type { Question } from '../../search/source.ts';
import { STUDY_KEYS } from '../../state/keys.ts';
import { sopHash } from '../../state/sop-hash.ts';
import type { ElasticReader } from './reader.ts';
import { cut } from './schema.ts';

type Query = estypes.QueryDslQueryContainer;
/** A look-up by UID finds so many at the most; above them the list is read. */
const UIDS_MAX = 2_000;

export const narrowing = ({ request, limits }: Question): NarrowOptions => {
  const { fuzzy, emptyValueMatching, timezoneOffset } = request;
  return { fuzzy, emptyValueMatching, timezone: timezoneOffset !== '', lookupMax: limits.lookupMax };
};

/** Filters that every study which matches passes, and few others. `of` says whose look-up fields there are. */
export function* filtersOf(reader: ElasticReader, question: Question, of: 'studies' | 'patients'): Reading<Query[]> {
  const { tenant, request, limits } = question;
  const filters: Query[] = [{ term: { tenant } }];
  if (limits.lookupMax < 0) return filters;
  const options = narrowing(question);
  for (const key of tellingKeys(request.match, options)) {
    const own = of === 'studies' || PATIENT_KEYS.has(key.tag);
    if (!own) continue;
    const filter = (yield* byUid(reader, tenant, key)) ?? byKey(key, options);
    if (filter) filters.push(filter);
  }
  return filters;
}
const PATIENT_KEYS: ReadonlySet<number> = new Set([
  Tag.PatientName,
  Tag.PatientID,
  Tag.IssuerOfPatientID,
  Tag.PatientBirthDate,
]);

function* byUid(reader: ElasticReader, tenant: string, { tag, values }: TellingKey): Reading<Query | undefined> {
  const uids = values.map(trimUid);
  if (uids.length > UIDS_MAX) return undefined;
  switch (tag) {
    case Tag.StudyInstanceUID:
      return { terms: { uid: uids } };
    case Tag.SeriesInstanceUID:
      return { terms: { uid: yield* waitFor(reader.studiesOfSeries(tenant, uids)) } };
    case Tag.SOPInstanceUID: {
      const hashes = uids.map((uid) => sopHash(tenant, uid));
      const places = yield* waitFor(reader.seriesOfSops(tenant, hashes));
      return { terms: { uid: [...new Set(places.map((one) => one.study))] } };
    }
    default:
      return undefined;
  }
}

function byKey(key: TellingKey, options: NarrowOptions): Query | undefined {
  if (!STUDY_KEYS.includes(key.tag)) return undefined;
  const field = `k${hexOf(key.tag)}`;
  const should: Query[] = [{ term: { oversize: true } }];
  const exact: string[] = [];
  for (const value of key.values) {
    const lookup = lookupOf(key, value, options);
    if (!lookup) return undefined;
    if ('exact' in lookup) exact.push(cut(lookup.exact));
    else should.push(rangeOf(field, key, lookup));
    if (key.vr === 'PN' && options.fuzzy) {
      const sounds = fuzzyOf(value);
      if (sounds.length === 0) return undefined;
      should.push(...sounds);
    }
  }
  if (exact.length > 0) should.push({ terms: { [field]: exact } });
  return { bool: { should } };
}

function rangeOf(field: string, { vr }: TellingKey, lookup: Exclude<Lookup, { exact: string }>): Query {
  if (vr === 'DA') return { range: { [field]: { gte: lookup.from, lte: lookup.to } } };
  const { from: prefix, contains } = lookup;
  if (contains === prefix) return { prefix: { [field]: prefix } };
  return { wildcard: { [field]: { value: `${escaped(prefix)}*${escaped(contains)}*` } } };
}
const escaped = (text: string): string => text.replace(/[\\*?]/g, '\\$&');

/** Every word of a fuzzy key finds a word of the name (search/match-text.ts): the first one narrows. */
function fuzzyOf(value: string): Query[] {
  const [first] = words(value);
  if (first === undefined || hasWildcard(first)) return [];
  const word = foldAccents(first);
  const queries: Query[] = [{ prefix: { words: word } }];
  const sound = soundOf(word);
  if (sound !== '') queries.push({ term: { sounds: sound } });
  if (word.length >= 5) queries.push({ fuzzy: { words: { value: word, fuzziness: 1, max_expansions: 1_000 } } });
  return queries;
}
