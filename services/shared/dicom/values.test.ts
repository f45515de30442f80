import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  combineDateTimeRange,
  dateTimeBounds,
  foldText,
  inRange,
  normaliseAeTitle,
  normaliseDate,
  normaliseDateTime,
  normalisePersonName,
  normaliseTime,
  parseDateRange,
  parseDateTimeRange,
  parseDs,
  parseIs,
  parsePersonName,
  parseTimeRange,
  parseTimezoneOffset,
  timeBounds,
} from './values.ts';

const BAD = { reason: 'bad-value' };

describe('dates', () => {
  it('are real ones, also as ACR-NEMA wrote them', () => {
    assert.equal(normaliseDate('20240229'), '20240229');
    assert.equal(normaliseDate(' 1998.12.31 '), '19981231');
    for (const wrong of [
      '20230229',
      '20241301',
      '20240100',
      '2024',
      '2024-01-01',
      '20240101x',
      '',
      '0000000',
      '1998.1231',
    ]) {
      assert.equal(normaliseDate(wrong), undefined, wrong);
    }
    assert.equal(normaliseDate('19000229'), undefined);
    assert.equal(normaliseDate('20000229'), '20000229');
  });
  it('ranges: open, closed, single; anything else is an error', () => {
    assert.deepEqual(parseDateRange('20200101-20201231'), { from: '20200101', to: '20201231' });
    assert.deepEqual(parseDateRange('20200101-'), { from: '20200101' });
    assert.deepEqual(parseDateRange('-20200101'), { to: '20200101' });
    assert.deepEqual(parseDateRange('20200101'), { from: '20200101', to: '20200101' });
    assert.deepEqual(parseDateRange('20200101 - 20200102'), { from: '20200101', to: '20200102' });
    for (const wrong of [
      '-',
      '',
      'x',
      '20200101-x',
      '20200132',
      '2020*',
      '20200101-20200102-20200103',
      '--',
      '20200101--20200102',
    ]) {
      assert.throws(() => parseDateRange(wrong), BAD, wrong);
    }
  });
});

describe('times', () => {
  it('mean from their first to their last microsecond', () => {
    assert.deepEqual(timeBounds('10'), { from: '100000.000000', to: '105959.999999' });
    assert.deepEqual(timeBounds('1030'), { from: '103000.000000', to: '103059.999999' });
    assert.deepEqual(timeBounds('103045.5'), { from: '103045.500000', to: '103045.599999' });
    assert.equal(normaliseTime('10:30:45'), '103045.000000');
    assert.equal(normaliseTime('235960'), '235960.000000');
    for (const wrong of ['24', '1060', '103061', '1', '10304', '10.5', 'x', ''])
      assert.equal(normaliseTime(wrong), undefined, wrong);
  });
  it('ranges', () => {
    assert.deepEqual(parseTimeRange('10-12'), { from: '100000.000000', to: '125959.999999' });
    assert.deepEqual(parseTimeRange('1000-'), { from: '100000.000000' });
    assert.deepEqual(parseTimeRange('-1000'), { to: '100059.999999' });
    for (const wrong of ['-', '25-', '10-12-13']) assert.throws(() => parseTimeRange(wrong), BAD, wrong);
    assert.equal(inRange('105959.999999', parseTimeRange('10')), true);
    assert.equal(inRange('110000.000000', parseTimeRange('10')), false);
  });
});

describe('date-times', () => {
  it('mean from their first to their last instant', () => {
    assert.deepEqual(dateTimeBounds('2024'), { from: '20240101000000.000000', to: '20241231235959.999999' });
    assert.deepEqual(dateTimeBounds('202402'), { from: '20240201000000.000000', to: '20240229235959.999999' });
    for (const wrong of [
      '202',
      '20241',
      '20241301',
      '2024010125',
      '20240101.5',
      '20240101+2500',
      '20240101-1300',
      '',
    ]) {
      assert.equal(dateTimeBounds(wrong), undefined, wrong);
    }
  });
  it('go to UTC by their own offset, or by the given one', () => {
    assert.equal(normaliseDateTime('20240101003000+0100'), '20231231233000.000000');
    assert.equal(normaliseDateTime('20231231200000-0430'), '20240101003000.000000');
    assert.equal(normaliseDateTime('20240101003000', { offsetMinutes: 60 }), '20231231233000.000000');
    assert.equal(normaliseDateTime('20240101003000+0000', { offsetMinutes: 60 }), '20240101003000.000000');
    assert.equal(normaliseDateTime('20240101003000'), '20240101003000.000000');
  });
  it('ranges, with the hyphen that is a sign told from the one that separates', () => {
    assert.deepEqual(parseDateTimeRange('2023-2024'), { from: '20230101000000.000000', to: '20241231235959.999999' });
    assert.deepEqual(parseDateTimeRange('20240101-0500'), {
      from: '20240101050000.000000',
      to: '20240102045959.999999',
    });
    assert.deepEqual(parseDateTimeRange('20240101-0500-20240102-0500'), {
      from: '20240101050000.000000',
      to: '20240103045959.999999',
    });
    assert.deepEqual(parseDateTimeRange('20240101+0100-'), { from: '20231231230000.000000' });
    assert.deepEqual(parseDateTimeRange('-20240101'), { to: '20240101235959.999999' });
    for (const wrong of ['-', '', 'x-y', '2024-x']) assert.throws(() => parseDateTimeRange(wrong), BAD, wrong);
  });
  it('combined from dates and times (PS3.4 C.2.2.2.5.3)', () => {
    const range = combineDateTimeRange(parseDateRange('20240101-20240103'), parseTimeRange('10-12'));
    assert.deepEqual(range, { from: '20240101100000.000000', to: '20240103125959.999999' });
    assert.equal(inRange('20240102030000.000000', range), true);
    assert.deepEqual(combineDateTimeRange({ from: '20240101' }, parseTimeRange('10-')), {
      from: '20240101100000.000000',
    });
    assert.deepEqual(combineDateTimeRange(parseDateRange('20240101'), {}, { offsetMinutes: 60 }), {
      from: '20231231230000.000000',
      to: '20240101225959.999999',
    });
  });
  it('time zones', () => {
    assert.equal(parseTimezoneOffset('+0530'), 330);
    assert.equal(parseTimezoneOffset('-1200'), -720);
    assert.equal(parseTimezoneOffset('-0000'), 0);
    for (const wrong of ['+1401', '-1201', '0100', '+01:00', '+0160'])
      assert.equal(parseTimezoneOffset(wrong), undefined, wrong);
  });
  it('any string gives a range or an error of our own', () => {
    const text = fc.oneof(fc.string(), fc.stringMatching(/^[0-9+.:-]{0,30}$/));
    fc.assert(
      fc.property(text, (value) => {
        for (const parse of [parseDateRange, parseTimeRange, parseDateTimeRange]) {
          try {
            const { from, to } = parse(value);
            assert.ok(from !== undefined || to !== undefined);
          } catch (error) {
            assert.equal((error as { reason?: string }).reason, 'bad-value', String(error));
          }
        }
      }),
      { numRuns: 2000 },
    );
  });
  it('sort as they mean', () => {
    const instants = fc.date({
      min: new Date('1900-01-02T00:00:00Z'),
      max: new Date('2100-01-01T00:00:00Z'),
      noInvalidDate: true,
    });
    const dt = (date: Date, minutes: number): string => {
      const local = new Date(date.getTime() + minutes * 60_000).toISOString();
      const sign = minutes < 0 ? '-' : '+';
      const zone = `${sign}${String(Math.floor(Math.abs(minutes) / 60)).padStart(2, '0')}${String(Math.abs(minutes) % 60).padStart(2, '0')}`;
      return `${local.replace(/[-:TZ]/g, '')}${zone}`;
    };
    const offset = fc.integer({ min: -720, max: 840 });
    fc.assert(
      fc.property(instants, offset, instants, offset, (a, offsetA, b, offsetB) => {
        const order = normaliseDateTime(dt(a, offsetA))! < normaliseDateTime(dt(b, offsetB))!;
        assert.equal(order, a.getTime() < b.getTime());
      }),
    );
  });
});

describe('names, titles, numbers', () => {
  it('person names without what says nothing', () => {
    assert.deepEqual(parsePersonName('Doe^Jane^^^=X^Y= '), {
      alphabetic: 'Doe^Jane',
      ideographic: 'X^Y',
      phonetic: '',
    });
    assert.equal(normalisePersonName('doe ^ Jane  Mary^^'), 'DOE^JANE MARY');
    assert.equal(normalisePersonName('Mu\u0308ller'), normalisePersonName('MÜLLER'));
    assert.equal(normalisePersonName('山田^太郎'), '山田^太郎');
    assert.equal(normalisePersonName('=山田='), '=山田');
    assert.equal(foldText('Müller-Ångström ＡＢ'), 'MULLER-ANGSTROM AB');
  });
  it('AE titles', () => {
    assert.equal(normaliseAeTitle('  STORE SCP \0'), 'STORE SCP');
    for (const wrong of ['', '   ', 'A\\B', 'A\x01', 'x'.repeat(17)])
      assert.equal(normaliseAeTitle(wrong), undefined, wrong);
  });
  it('IS and DS', () => {
    assert.equal(parseIs(' +12 '), 12);
    assert.equal(parseIs('2147483648'), undefined);
    assert.equal(parseIs('1.0'), undefined);
    assert.equal(parseDs(' -1.5E3 '), -1500);
    for (const wrong of ['', '1,5', '0x10', 'Infinity', '1e', '.', '1e999'])
      assert.equal(parseDs(wrong), undefined, wrong);
  });
});
