import os
import signal
import threading

import pytest
from lavit_core.interrupt import stop_requested, stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_second_insists(number):
    before = signal.getsignal(number)
    with stop_signals() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_long_work_inside_a_block_sees_the_request_too():
    assert not stop_requested()
    with stop_signals():
        assert not stop_requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested()
    assert not stop_requested()


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), stop_signals():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_never_stop():
    found = []

    def work():
        with stop_signals() as stop:
            found.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
