// The version of an index and its shape go together: an index of another shape under the same version would be opened as it is.
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import { ELASTIC_VERSION, INDICES, METADATA } from './elasticsearch/schema.ts';
import { INDEX_VERSION, SCHEMA } from './sqlite/schema.ts';

const tables = SCHEMA.replace(/--.*$/gm, '').replace(/\s+/g, ' ').trim();
const SHAPES = [
  {
    what: 'SQLite (INDEX_VERSION in sqlite/schema.ts)',
    version: INDEX_VERSION,
    shape: tables,
    recorded: { version: 2, digest: '8a189a6472a6df0f' },
  },
  {
    what: 'Elasticsearch (ELASTIC_VERSION in elasticsearch/schema.ts)',
    version: ELASTIC_VERSION,
    shape: JSON.stringify([INDICES, METADATA]),
    recorded: { version: 1, digest: '866e0477d2980660' },
  },
];

for (const { what, version, shape, recorded } of SHAPES)
  test(`another shape of the index is another version: ${what}`, () => {
    const digest = hash('sha256', shape).slice(0, 16);
    assert.deepEqual(
      { version, digest },
      recorded,
      'raise the version with the shape, and record both here: a release before this one may have made the index that is there',
    );
  });
