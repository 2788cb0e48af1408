"The CLAIM checklist and the model card of a run of finetune, made from its folder alone."
import json
import subprocess
import sys

import pytest


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cards')
    out = subprocess.run([sys.executable, '-m', 'cxr_ssl.run', 'finetune', 'epochs=1', 'encoder=small_cnn', 'out=run'], cwd=folder, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return folder / 'run'


@pytest.mark.slow
def test_nine_tenths_of_the_applicable_items_are_filled(run):
    from cxr_ssl.eval.card import claim
    made = claim(run)
    table = made.table.set_index('item')
    assert len(table) == 44 and made.filled >= .9
    assert sorted(table.index[table.status == 'author']) == [3, 11, 15, 44], 'these cannot be known from a run'
    assert sorted(table.index[table.status == 'not applicable']) == [18, 27, 34] and table.text[34].startswith('not applicable, because')


@pytest.mark.slow
def test_every_number_on_the_card_is_in_the_record(run):
    from cxr_ssl.eval.card import claim, model_card
    from cxr_ssl.record import Record
    record, card, table = Record.open(run), model_card(run), claim(run).table.set_index('item')
    m = record.metrics()
    auc = m[(m.arm == 'model') & (m.metric == 'auc') & (m.label == 'macro')].iloc[0]
    assert f'{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})' in card
    for part in record.data()['parts'].values(): assert f"{part['images']} | {part['patients']}" in card
    assert record.data()['protocol_hash'][:16] in table.text[19] and record.environment['versions']['torch'] in table.text[23]
    assert json.loads((run / 'encoder.json').read_text())['start_hash'][:16] in table.text[24]
    train = record.data()['parts']['train']['patients']
    assert f'train, {train} patients: sex' in table.text[36], 'age and sex come from the manifest of the bank beside the run'


@pytest.mark.slow
def test_the_command_writes_both_and_breaks_no_seal(run):
    from cxr_ssl.record import Record
    out = subprocess.run([sys.executable, '-m', 'cxr_ssl.submit', 'card', str(run)], capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout.split() == [str(run / 'model_card.md'), str(run / 'claim.md')], out.stderr
    assert (run / 'claim.md').read_text().count('**for the author to write**') == 4 and Record.open(run).edited() == []
