// Decisions in plain words.

import { el } from './dom.js';
import * as f from './format.js';
import { strategyTag, DROP } from './strategies.js';

/** full reports that a job was refused for the limit on its downstream: nothing else that it waits for can be too much. */
const full = (d) => d.limit !== null && d.excess_ms > 0;

const calls = (d) => `${f.exact(d.in_flight)} of ${f.plural(d.limit, 'call')} in flight`;

/** facts are the figures that stood behind a reason, in a few words. */
export function facts(d) {
  const list = [];
  const dropped = d.strategy === DROP || d.status === 'dropped';
  if (dropped) {
    if (d.admitted && d.wait_ms > 0) list.push(`waited ${f.duration(d.wait_ms)}`);
    if (full(d)) list.push(calls(d));
    else if (d.slack_ms !== null && d.slack_ms <= 0) list.push(`${f.duration(-d.slack_ms)} over`);
    else if (d.slack_ms !== null && d.predicted_ms !== null && d.predicted_ms > d.slack_ms) {
      list.push(`needs ${f.duration(d.predicted_ms)}, has ${f.duration(d.slack_ms)}`);
    } else if (d.excess_ms > 0) {
      list.push(`${f.duration(d.excess_ms)} too much ahead of it`);
    } else if (d.admitted) {
      list.push(`was in ${d.admitted.strategy}`);
    } else if (d.demand > d.share && d.share > 0 && d.demand > d.slots) {
      list.push(`share ${f.cores(d.share)} cores`);
    } else if (d.cpu_busy !== undefined) list.push(`${d.cpu_busy} of ${d.slots} slots busy`);
  } else if (d.members > 1) {
    list.push(`with ${d.members - 1} more`);
  } else if (d.queued > 0 && (d.strategy === 'cpu_pool' || d.strategy === 'batch')) {
    list.push(`behind ${d.queued}`);
  }
  if (d.status === 'failed') list.push('failed');
  if (d.status === 'withdrawn') list.push('withdrawn');
  return list.join(', ');
}

/** late reports that a job ended after its budget. */
export const late = (d) => d.in_budget === false;

const margin = (left) => (left >= 0
  ? `${f.duration(left)} inside its budget`
  : `${f.duration(-left)} beyond its budget`);

const retry = (d) => (d.retry_ms > 0 ? ` Worth a retry in ${f.duration(d.retry_ms)}.` : '');

/** story tells in a sentence or two what came of a decision. */
export function story(d) {
  if (d.status === 'dropped' || d.strategy === DROP) {
    let s = `Refused: ${d.reason}.`;
    if (d.admitted) {
      s = `Admitted to ${d.admitted.strategy}: ${d.admitted.reason}. Refused ${d.wait_ms > 0 ? `${f.duration(d.wait_ms)} later` : 'at once'}: ${d.reason}.`;
      if (d.slack_ms !== null) s += d.slack_ms > 0 ? ` It had ${f.duration(d.slack_ms)} left.` : ` It was ${f.duration(-d.slack_ms)} late by then.`;
      return s;
    }
    if (full(d)) return `${s} It had ${calls(d)} for jobs of ${d.priority} priority.${retry(d)}`;
    if (d.predicted_ms !== null) s += ` It would have needed ${f.duration(d.predicted_ms)}`;
    if (d.predicted_ms !== null && d.slack_ms !== null) {
      s += d.slack_ms > 0 ? ` and had ${f.duration(d.slack_ms)} left` : ` and was ${f.duration(-d.slack_ms)} late already`;
    }
    if (d.predicted_ms !== null) s += '.';
    if (d.excess_ms > 0) s += ` What stood before it was ${f.duration(d.excess_ms)} too much.`;
    return s + retry(d);
  }
  if (d.status === 'withdrawn') return `Withdrawn by its caller${d.wait_ms > 0 ? ` after ${f.duration(d.wait_ms)}` : ''}, before it started. It was meant for ${d.strategy}: ${d.reason}.`;
  let s = `Went to ${d.strategy}${d.where ? `, at ${d.where}` : ''}: ${d.reason}.`;
  if (d.took_ms !== null) {
    const wait = d.wait_ms > 0 ? `Started after ${f.duration(d.wait_ms)}` : 'Started at once';
    s += ` ${wait}, ran ${f.duration(d.run_ms)}`;
    if (d.members > 1) s += ` in one call with ${d.members - 1} more`;
    if (d.status === 'failed') s += ', and failed';
    s += d.budget_ms !== null ? `: ended ${margin(d.budget_ms - d.took_ms)}.` : '. It had no budget.';
  }
  return s;
}

/** rejectedList names the other strategies and why not. */
export function rejectedList(rejected) {
  if (!rejected || !rejected.length) return el('p', { class: 'dim' }, 'No other strategy was considered.');
  return el('ul', { class: 'rejected' }, rejected.map((r) => el('li', {},
    'not ', strategyTag(r.strategy), el('span', { class: 'dim' }, ` ${r.reason}`))));
}

/** forecast tells what api/explain answered. */
export function forecast(e) {
  const ahead = e.excess_ms > 0 ? ` What stands before it is ${f.duration(e.excess_ms)} too much.` : '';
  const needs = e.predicted_ms;
  if (e.strategy === DROP) {
    let s = `${e.reason}.`;
    if (full(e)) return `${s} It has ${calls(e)} for jobs of this priority.`;
    if (needs !== null) s += ` It needs ${f.duration(needs)}${e.predicted_wait_ms > 0 ? `, of which ${f.duration(e.predicted_wait_ms)} waiting` : ''}`;
    if (needs !== null) s += e.slack_ms !== null ? `, and has ${f.duration(e.slack_ms)}.` : '.';
    return s + ahead;
  }
  let s = `${e.reason}. `;
  if (needs === null) return `${s}How long it takes is not known yet.`;
  s += e.predicted_wait_ms > 0 ? `Would start in ${f.duration(e.predicted_wait_ms)} and be ` : 'Would start at once and be ';
  s += `done in ${f.duration(needs)}`;
  s += e.slack_ms !== null ? `, ${margin(e.slack_ms - needs)}.` : '.';
  return s;
}
