import { randomBytes } from 'node:crypto';
import type { Client } from '@elastic/elasticsearch';
import { GantryError } from '#platform/errors.ts';
import type { VersionPolicy } from '../../fold/types.ts';
import { asked, isStatus } from './client.ts';
import { ELASTIC_VERSION, INDICES, type IndexName, METADATA } from './schema.ts';

/**
 * `gantry-studies` is the alias that says which generation is the index: `gantry-v1-1-studies` and its siblings. Each of these is an alias
 * too, of an index named `…-0`, because Elasticsearch makes a missing index of whatever is written to it, but no missing alias.
 */
export interface Generation {
  name: string; // gantry-v1-1
  version: number;
  n: number;
}
export interface IndexShape {
  prefix: string;
  shards: number;
  replicas: number;
  refreshIntervalMs: number;
}
const NAMES = Object.keys(INDICES) as IndexName[];

export class Generations {
  readonly #client: Client;
  readonly #shape: IndexShape;

  constructor(client: Client, shape: IndexShape) {
    this.#client = client;
    this.#shape = shape;
  }
  get #alias(): string {
    return `${this.#shape.prefix}-studies`;
  }
  /** On what a rebuild is still building: only that may take the index's place, and only that is nobody's once no rebuild runs. */
  get #building(): string {
    return `${this.#shape.prefix}-building`;
  }
  get metadata(): string {
    return `${this.#shape.prefix}-metadata-v1`;
  }

  #parse(index: string): Generation | undefined {
    const { prefix } = this.#shape;
    if (!index.startsWith(`${prefix}-v`)) return undefined;
    const match = /^(v(\d+)-(\d+)[a-z0-9]*)-studies-0$/.exec(index.slice(prefix.length + 1));
    return match ? { name: `${prefix}-${match[1]!}`, version: Number(match[2]), n: Number(match[3]) } : undefined;
  }

  /** Which is the index now. */
  async current(): Promise<Generation | undefined> {
    try {
      const found = await this.#client.indices.getAlias({ name: this.#alias });
      for (const index of Object.keys(found)) {
        const generation = this.#parse(index);
        if (generation) return generation;
      }
      return undefined;
    } catch (error) {
      if (isStatus(error, 404)) return undefined;
      return asked('looking for the index', () => Promise.reject(error));
    }
  }

  async policyOf(generation: Generation): Promise<VersionPolicy> {
    const found = await asked('reading what the index is', () =>
      this.#client.get<{ body: string }>({ index: `${generation.name}-state`, id: 'meta' }),
    );
    return (JSON.parse(found._source!.body) as { policy: VersionPolicy }).policy;
  }

  /** The first: whoever makes it, it is the same. */
  async first(policy: VersionPolicy): Promise<Generation> {
    const generation = { name: `${this.#shape.prefix}-v${ELASTIC_VERSION}-1`, version: ELASTIC_VERSION, n: 1 };
    await this.#make(generation, policy);
    await asked('naming the index', () =>
      this.#client.indices.updateAliases({
        actions: [{ add: { index: `${generation.name}-studies-0`, alias: this.#alias } }],
      }),
    );
    return (await this.current()) ?? generation;
  }

  /** One beside the current: nobody else's, so that what a forgotten rebuild still writes goes nowhere. */
  async beside(current: Generation | undefined, policy: VersionPolicy): Promise<Generation> {
    const n = (current?.n ?? 0) + 1;
    const name = `${this.#shape.prefix}-v${ELASTIC_VERSION}-${n}x${randomBytes(4).toString('hex')}`;
    const generation = { name, version: ELASTIC_VERSION, n };
    await this.#make(generation, policy, [this.#building]);
    return generation;
  }

  async #make(generation: Generation, policy: VersionPolicy, marks: readonly string[] = []): Promise<void> {
    const { shards, replicas, refreshIntervalMs } = this.#shape;
    for (const name of NAMES)
      await this.#create(
        `${generation.name}-${name}-0`,
        [`${generation.name}-${name}`, ...(name === 'studies' ? marks : [])],
        INDICES[name],
        {
          number_of_shards: name === 'state' || name === 'patients' ? 1 : shards,
          number_of_replicas: replicas,
          refresh_interval: `${refreshIntervalMs}ms`,
          codec: name === 'series' || name === 'blocks' ? 'best_compression' : 'default',
          ...(name === 'studies'
            ? { sort: { field: ['o00080020', 'o00080030', 'uid'], order: ['desc', 'desc', 'desc'] } }
            : {}),
        },
      );
    await this.#create(`${this.metadata}-0`, [this.metadata], METADATA, {
      number_of_shards: shards,
      number_of_replicas: replicas,
      refresh_interval: '30s',
      codec: 'best_compression', // base64, at least, which is a quarter of it
    });
    const body = JSON.stringify({ policy, created: new Date().toISOString() });
    try {
      await this.#client.create({
        index: `${generation.name}-state`,
        id: 'meta',
        document: { tenant: '', kind: 'meta', body },
      });
    } catch (error) {
      if (!isStatus(error, 409)) await asked('making the index', () => Promise.reject(error));
    }
  }

  async #create(index: string, aliases: readonly string[], properties: object, settings: object): Promise<void> {
    try {
      await this.#client.indices.create({
        index,
        aliases: Object.fromEntries(aliases.map((alias) => [alias, {}])),
        settings: { index: settings },
        mappings: { dynamic: 'strict', properties: properties as never },
      });
    } catch (error) {
      if (!isStatus(error, 400, 'resource_already_exists_exception'))
        await asked('making an index', () => Promise.reject(error));
    }
  }

  /** Fails where another process has put its own there meanwhile, or has taken this one for forgotten. */
  async swap(from: Generation | undefined, to: Generation): Promise<void> {
    const alias = this.#alias;
    await asked('putting an index in the place of another', () =>
      this.#client.indices.updateAliases({
        actions: [
          ...(from ? [{ remove: { index: `${from.name}-studies-0`, alias, must_exist: true } }] : []),
          { remove: { index: `${to.name}-studies-0`, alias: this.#building, must_exist: true } },
          { add: { index: `${to.name}-studies-0`, alias } },
        ],
      }),
    );
  }

  /**
   * What is left of others, while no rebuild runs: `forgotten` by rebuilds that were killed, and can take nobody's place any more; and `former`
   * ones that nobody removed, because the process that had built the next was killed within the minute.
   */
  async left(): Promise<{ forgotten: Generation[]; former: Generation[] }> {
    const left = { forgotten: [] as Generation[], former: [] as Generation[] };
    const current = await this.current();
    if (!current) return left; // the first is being made
    const found = await asked('looking for forgotten indices', () =>
      this.#client.indices.getAlias({ index: `${this.#shape.prefix}-v*-studies-0` }),
    );
    for (const [index, { aliases }] of Object.entries(found)) {
      const generation = this.#parse(index);
      if (!generation || generation.name === current.name) continue;
      if (this.#building in aliases) {
        // In one step with what would put it in the index's place: one of the two fails.
        if (await this.#unmark(index)) left.forgotten.push(generation);
      } else if (this.#alias in aliases) continue;
      else left.former.push(generation);
    }
    return left;
  }

  async #unmark(index: string): Promise<boolean> {
    try {
      await this.#client.indices.updateAliases({
        actions: [{ remove: { index, alias: this.#building, must_exist: true } }],
      });
      return true;
    } catch (error) {
      if (isStatus(error, 404)) return false; // it is the index now, or gone
      return asked('removing a forgotten index', () => Promise.reject(error));
    }
  }

  /** Of a rebuild that failed. A swap whose answer was lost may have been done: then it is the index, and stays. */
  async abandon(generation: Generation, fenced: Generation | undefined): Promise<void> {
    if (!(await this.#unmark(`${generation.name}-studies-0`))) return;
    if (fenced) await this.unfence(fenced);
    await this.remove(generation);
  }

  /** Nothing is written into it any more, by whichever process; what was being written is in it, or was refused, once this returns. */
  async fence(generation: Generation): Promise<void> {
    const { acknowledged, shards_acknowledged, indices } = await asked('fencing the index', () =>
      this.#client.indices.addBlock({ index: indicesOf(generation), block: 'write', ignore_unavailable: true }),
    );
    if (!acknowledged || !shards_acknowledged || indices.some(({ blocked }) => !blocked))
      throw new GantryError('unavailable', 'a shard of the index did not confirm that it takes no writes any more');
  }

  async isFenced(generation: Generation): Promise<boolean> {
    const found = await asked('looking whether the index is fenced', () =>
      this.#client.indices.getSettings({
        index: indicesOf(generation),
        name: 'index.blocks.write',
        flat_settings: true,
        ignore_unavailable: true,
      }),
    );
    return Object.values(found).some(({ settings }) => settings && 'index.blocks.write' in settings);
  }

  /** After whoever fenced it was kept from completing: his mark is gone. Not where another is the index already: it stays fenced. */
  async unfence(generation: Generation): Promise<void> {
    if ((await this.current())?.name !== generation.name) return;
    await asked('letting the index be written again', () =>
      this.#client.indices.putSettings({
        index: indicesOf(generation),
        settings: { 'index.blocks.write': null } as never,
        ignore_unavailable: true,
      }),
    );
  }

  async remove(generation: Generation): Promise<void> {
    await asked('removing an index', () =>
      this.#client.indices.delete({
        index: indicesOf(generation),
        ignore_unavailable: true,
      }),
    );
  }
}

const indicesOf = ({ name }: Generation): string[] => NAMES.map((each) => `${name}-${each}-0`);
