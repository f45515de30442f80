// What SCALE.md is made of. Measured: by the runs named; nothing here is estimated but what stands under ASSUMED.

interface FoldRun {
  what: string;
  commits: string;
  /** Microseconds of CPU an instance. */
  foldUs: number;
  foldServerUs: number;
  settleUs: number;
  settleServerUs: number;
  /** Bytes an instance, metadata apart. */
  bytes: string;
  merged: string;
  metadata: string;
  load: string;
}

export const MEASURED = {
  when: '2026-11-24',
  elasticsearch: {
    aims: [
      [
        'fold: ≥ 20,000 instances/s per core of the index role',
        '17,400/s at load 30–37, 16,700/s of 60,000 at load 4, the first third of them with a young compiler (23,000/s with headers of 25 attributes at load 2)',
        '**missed**',
      ],
      [
        '≤ 100 bytes an instance on disk, merged',
        '71.7, and 192.5 of metadata objects beside',
        'yes for the index; **no** with the metadata, which is the header itself',
      ],
      [
        'QIDO at 10^6 studies: p99 ≤ 20 ms',
        'Patient ID 14.6 ms, accession number 14.8, newest 100 20.7, a day and a modality 22.4, next page 43, `DOE12*` 68.5 (one client, nothing else running)',
        'by identifiers; **missed** by lists and prefixes',
      ],
    ] as [aim: string, measured: string, met: string][],
    fold: [
      {
        what: '3 series of 150, 72,000 instances',
        commits: '64 of 64',
        foldUs: 57.4,
        foldServerUs: 45,
        settleUs: 196.3,
        settleServerUs: 316.3,
        bytes: '71.7',
        merged: '71.7',
        metadata: '192.5',
        load: '30–37',
      },
      {
        what: 'one instance a study, 8,192',
        commits: '64 of 64',
        foldUs: 496,
        foldServerUs: 953.4,
        settleUs: 0,
        settleServerUs: 0,
        bytes: '2,025',
        merged: 'not run',
        metadata: '',
        load: '40',
      },
      {
        what: '3 series of 150, 200,000, before',
        commits: '64 of 64',
        foldUs: 83.4,
        foldServerUs: 28.3,
        settleUs: 313.5,
        settleServerUs: 448.6,
        bytes: '70.4',
        merged: '70.4',
        metadata: '323',
        load: '5–30',
      },
      {
        what: '3 series of 150, 60,000, before',
        commits: '64 of 64',
        foldUs: 109.7,
        foldServerUs: 51,
        settleUs: 0,
        settleServerUs: 0,
        bytes: '79.8',
        merged: '79.8',
        metadata: '',
        load: '23',
      },
    ] as FoldRun[],
    search: {
      studies: 1_000_000,
      note: `Documents of one to five series, 822 bytes each in twelve segments, unmerged; rows of 100 at the most; a mix of 300 of these questions by one client with nothing
else running, 61/s and 2.9 ms of CPU of the index role each (Elasticsearch shares the two cores; its compiler was young). Before, 282,255 studies at load 42: all p10 5.0, p50 47, p99 220.`,
      columns: ['rows', 'p10', 'p50', 'p90', 'p99'],
      rows: [
        { what: 'first page, newest 100', values: ['100', '10.5', '13.6', '18.1', '20.7'] },
        { what: 'next page by cursor', values: ['100', '11.0', '17.5', '38.8', '43.2'] },
        { what: 'PatientID', values: ['2', '5.4', '6.9', '11.1', '14.6'] },
        { what: 'AccessionNumber', values: ['1', '5.0', '6.4', '11.1', '14.8'] },
        { what: 'a day and a modality', values: ['11', '5.2', '7.2', '13.6', '22.4'] },
        { what: 'PatientName DOE12*', values: ['100', '31.0', '52.0', '57.8', '68.5'] },
        { what: 'all', values: ['53', '5.5', '11.2', '43.2', '59.7'] },
      ],
    },
    tried: [
      'A profile of the fold (`--cpu-prof`): a third of it was turning the same attributes of each header into JSON (`fold/describe.ts`), 6.5 % their comparison. Found again by their bytes: 109.7 → 58–64 µs an instance within a quarter of an hour, at loads of 22 to 27. What remains is flat: reading headers 12 %, the digest from its prefix 4 %, tables of contents 5 %, the collector 14 %.',
      'Settling refreshed two indices for each study, wrote its metadata piece by piece and looked for shared instances series by series: now one refresh for all that are due, one write and one look a study. 313 → 196 µs an instance of our CPU, 449 → 316 of the server’s (200,000 before, 72,000 after, so the server was younger after).',
      'Metadata objects with `best_compression`: base64 in a document took 323 bytes an instance, now 192.5; the same objects as files are 190.6.',
      'A search was sent whole documents, of which its rows show a tenth; it asks for those fields now. Not measured alone.',
      'Not tried: a pool of processes that settle; `index.codec` of studies; the request cache, which keeps no answers with rows.',
    ],
  },
  sqlite: {
    fold: [
      {
        what: '3 series of 150, 54,000 instances',
        commits: '64 of 64',
        foldUs: 80.8,
        foldServerUs: 0,
        settleUs: 140.4,
        settleServerUs: 0,
        bytes: '103.4',
        merged: '91.9',
        metadata: '190.6',
        load: '35–50',
      },
      {
        what: '3 series of 150, 50,000, before',
        commits: '64 of 64',
        foldUs: 78.5,
        foldServerUs: 0,
        settleUs: 88,
        settleServerUs: 0,
        bytes: '176.1',
        merged: '92.4',
        metadata: '190.6',
        load: '2–15',
      },
    ] as FoldRun[],
    note: 'Here the CPU is all of it: what Elasticsearch takes in its own process is in these numbers. *Merged* leaves out free pages, which the next studies fill (the row before settled everything at the end and had held all headers meanwhile); a write-ahead log of 17 MB stands beside, whatever the size. The load of the two rows differs too much to compare them.',
  },
  /** What the model takes of the tables above. Documents: series, studies, patients, metadata. */
  model: {
    ct: { perStudy: 450, indexBytes: 71.7, metadataBytes: 192.5, documents: 8 / 450, foldUs: 57.4, settleUs: 196 },
    // Its settling was not measured: no metadata object, no CPU for it.
    plain: { perStudy: 1, indexBytes: 2_025, metadataBytes: 0, documents: 3.5, foldUs: 496, settleUs: 0 },
  },
  /** An instance, from the section S3: as it is stored, the keeper's until it is packed and reclaimed, objects of the log that stay for ever;
   * its packs are one a study, which with the studies of 100 measured is 0.01 of `keeper.put`. */
  s3: {
    '32 associations': { put: 0.035, keeper: { put: 0.035, get: 1.17, list: 0.098 }, logObjects: 0.01 },
    '4 associations': { put: 0.253, keeper: { put: 0.035, get: 1.82, list: 0.105 }, logObjects: 0.01 },
    '1 association': { put: 1.003, keeper: { put: 0.035, get: 4.07, list: 0.125 }, logObjects: 0.01 },
    '1 association a day': { put: 1.02, keeper: { put: 0.085, get: 4.2, list: 0.27 }, logObjects: 0.05 },
  },
};

/** To be replaced by one's own offer. */
export const PRICES = {
  source:
    'Amazon S3 Standard, eu-central-1, as its public list read in 2025 (0.0225 $ a GB-month above 500 TB, 0.0054 $ for 1,000 PUT, COPY, POST or LIST, 0.00043 $ for 1,000 GET, DELETE free), and gp3 volumes there (0.0952 $ a GB-month), taken from memory and not looked up again; a dollar is 0.90 €. Machines and traffic are not in it',
  gbMonth: 0.0225 * 0.9,
  put1000: 0.0054 * 0.9,
  get1000: 0.00043 * 0.9,
  diskGbMonth: 0.0952 * 0.9,
};

export const ASSUMED = {
  instances: 1e9,
  bytes: 0.5e6,
  years: 5,
  /** The busiest hour to the average one. */
  peak: 10,
  replicas: 1,
  /** Merging needs room for a copy of what it merges, and a rebuild stands beside the index. */
  indexHeadroom: 2,
  breaks: [
    'One Patient ID for everybody ("ANONYMOUS"): the patient is one document that grows by some 215 bytes a study (counted) and is written with each; at 10,000 studies that is 2 MB a study stored, at 460,000 it is larger than the 100 MB that Elasticsearch takes in one request, and its studies are folded no more.',
    'A shard: the default of `index.elasticsearchShards` is 1, and 10^9 CT instances are more than the 50 GB that one carries well, one instance a study far more. It is set before the index is built; later it is a rebuild.',
    'One folder: one process folds at a time (the lease `index.fold`). That is far above what arrives, but a rebuild takes the hours of the last column, and nothing shares it out yet.',
    'The keeper reads each instance once to pack it and its tables up to three times: one keeper moves what arrives at the peak only as fast as its network does (half a megabyte an instance).',
    'One instance a study: its pack is one instance, so the archive keeps an object an instance for ever (last row: derived from one pack a study, not measured), and the index three documents.',
    'One association at a time on a slow store: an answer takes a PUT, so 200 ms a PUT are at most 5 instances a second for that association, whatever the cluster.',
  ],
};
